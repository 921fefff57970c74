//! The names that statements may change.

use tree_sitter::Node;

use super::evaluate::named;

/// The names that a statement assigns.
pub fn assigned(node: Node<'_>) -> Vec<Node<'_>> {
    let mut found = Vec::new();
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        if matches!(node.kind(), "assignment" | "augmented_assignment" | "for_statement")
            && let Some(left) = node.child_by_field_name("left")
        {
            match left.kind() {
                "identifier" => found.push(left),
                _ => found.extend(
                    named(left).into_iter().filter(|name| name.kind() == "identifier" && left.kind() != "subscript"),
                ),
            }
        }
        if node.kind() != "function_definition" {
            open.extend(named(node));
        }
    }
    found
}

/// The names whose methods a statement calls.
pub fn changed_lists(node: Node<'_>) -> Vec<Node<'_>> {
    let mut found = Vec::new();
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        let function = if node.kind() == "call" { node.child_by_field_name("function") } else { None };
        let object = function.and_then(|function| function.child_by_field_name("object"));
        found.extend(object.filter(|object| object.kind() == "identifier"));
        open.extend(named(node));
    }
    found
}

/// Whether a statement may change a variable, by an assignment or a method call.
pub fn changes(node: Node<'_>) -> bool {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        let is_method = node.kind() == "call"
            && node.child_by_field_name("function").is_some_and(|function| function.kind() == "attribute");
        if is_method || matches!(node.kind(), "assignment" | "augmented_assignment" | "return_statement") {
            return true;
        }
        open.extend(named(node));
    }
    false
}
