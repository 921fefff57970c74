use proptest::prelude::*;

use super::*;

fn lookup(name: &str) -> Option<Value> {
    match name {
        "TILE_M" => Some(Value::Int(64)),
        "S" => Some(Value::Int(100)),
        "ON" => Some(Value::Bool(true)),
        "MODE" => Some(Value::Str("fast".to_owned())),
        "HALF" => Some(Value::Float(0.5)),
        _ => None,
    }
}

fn eval(text: &str) -> Value {
    Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).eval(&lookup).unwrap()
}

fn eval_error(text: &str) -> String {
    let (error, range) = Expr::parse(text).unwrap().eval_at(&lookup).unwrap_err();
    format!("{range:?} {error}")
}

fn parse_error(text: &str) -> String {
    let error = Expr::parse(text).unwrap_err();
    format!("{:?} {error}", error.range)
}

#[test]
fn values() {
    for (text, value) in [
        ("1 + 2 * 3", Value::Int(7)),
        ("(1 + 2) * 3", Value::Int(9)),
        ("10 - 2 - 3", Value::Int(5)),
        ("7 / 2", Value::Float(3.5)),
        ("8 / 2", Value::Int(4)),
        ("7 // 2", Value::Int(3)),
        ("-7 // 2", Value::Int(-4)),
        ("-7 % 3", Value::Int(2)),
        ("7 % -3", Value::Int(-2)),
        ("-7.5 % 2", Value::Float(0.5)),
        ("-9223372036854775807 // -1", Value::Int(i64::MAX)),
        ("(-9223372036854775807 - 1) % -1", Value::Int(0)),
        ("ceil_div(S, TILE_M)", Value::Int(2)),
        ("ceil_div(-7, 2)", Value::Int(-3)),
        ("ceil_div(7.5, 2)", Value::Int(4)),
        ("min(3, 2.5, 4)", Value::Float(2.5)),
        ("max(3, 2.5, 4)", Value::Int(4)),
        ("1 / sqrt(64)", Value::Float(0.125)),
        ("1e3", Value::Float(1000.0)),
        ("32 * (TILE_M / 16 + ON * 2)", Value::Int(192)),
        ("32 <= TILE_M * 2 <= 1024", Value::Bool(true)),
        ("1 < 3 < 2", Value::Bool(false)),
        ("3 < 2 < 1 / 0", Value::Bool(false)),
        ("1 == 1.0", Value::Bool(true)),
        ("ON == 1 and not TILE_M == 32", Value::Bool(true)),
        ("!ON == 0", Value::Bool(true)),
        ("not ON == 0", Value::Bool(true)),
        ("false || true && false", Value::Bool(false)),
        ("2 and 3", Value::Bool(true)),
        ("ON or 1 / 0", Value::Bool(true)),
        ("MODE == 'fast'", Value::Bool(true)),
        (r#"MODE != "it's""#, Value::Bool(true)),
        (r"'it\'s' == 'it\'s'", Value::Bool(true)),
    ] {
        assert_eq!(eval(text), value, "{text}");
    }
}

#[test]
fn errors_say_which_part() {
    insta::assert_snapshot!(eval_error("1 + 9223372036854775807 * 2"), @"4..27 overflow in `9223372036854775807 * 2`");
    insta::assert_snapshot!(eval_error("S % (TILE_M - 64) == 0"), @"0..17 division by zero in `S % (TILE_M - 64)`");
    insta::assert_snapshot!(eval_error("TILE_M + TILE_X"), @"9..15 unknown name `TILE_X`");
    insta::assert_snapshot!(eval_error("MODE * 2"), @"0..8 a string in arithmetic: `MODE * 2`");
    insta::assert_snapshot!(eval_error("MODE == 2"), @"0..9 a string against a number: `MODE == 2`");
    insta::assert_snapshot!(eval_error("MODE < 'z'"), @"0..10 strings have no order: `MODE < 'z'`");
    insta::assert_snapshot!(eval_error("ON and MODE"), @"0..11 a string is neither true nor false: `ON and MODE`");
    insta::assert_snapshot!(eval_error("sqrt(1 - 2)"), @"0..11 square root of a negative number: `sqrt(1 - 2)`");
    insta::assert_snapshot!(eval_error("1 < 2 / 0 < 3"), @"4..9 division by zero in `2 / 0`");
    insta::assert_snapshot!(eval_error("1 < 'a' < 3"), @"0..7 a string against a number: `1 < 'a'`");
}

#[test]
fn parse_errors_say_where() {
    insta::assert_snapshot!(parse_error(""), @"0..0 an empty expression");
    insta::assert_snapshot!(parse_error("1 +"), @"3..3 expected a value at the end");
    insta::assert_snapshot!(parse_error("1 2"), @"2..3 expected an operator, found `2`");
    insta::assert_snapshot!(parse_error("(1 + 2"), @"6..6 expected `)` at the end");
    insta::assert_snapshot!(parse_error("a = 2"), @"2..3 unexpected `=`; equality is `==`");
    insta::assert_snapshot!(parse_error("a ? 2"), @"2..3 unexpected `?`");
    insta::assert_snapshot!(parse_error("a + §"), @"4..6 unexpected `§`");
    insta::assert_snapshot!(parse_error("'abc"), @"0..4 a string without its closing quote");
    insta::assert_snapshot!(parse_error("99999999999999999999"), @"0..20 a number out of range");
    insta::assert_snapshot!(parse_error("ceil(1, 2)"), @"0..4 no function `ceil`; there are ceil_div, min, max and sqrt");
    insta::assert_snapshot!(parse_error("sqrt(1, 2)"), @"0..4 `sqrt` takes one argument, not 2");
    insta::assert_snapshot!(parse_error("1 + and"), @"4..7 expected a value, found `and`");
    assert!(parse_error(&"(".repeat(100_000)).contains("nested more than 64 levels deep"));
    assert!(Expr::parse(&vec!["1"; 50_000].join("+")).is_ok());
}

#[test]
fn names_are_in_order_of_first_use() {
    let expr = Expr::parse("b + a * b + min(c, a)").unwrap();
    assert_eq!(expr.names(), ["b", "a", "c"]);
    assert_eq!(expr.names_at().nth(1), Some(("a", 4..5)));
}

/// A tree that is printed with all its parentheses and evaluated by the obvious recursion, to compare with.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(i64),
    Name,
    Binary(&'static str, Box<Tree>, Box<Tree>),
    Chain(Box<Tree>, Box<Tree>, Box<Tree>),
    Unary(&'static str, Box<Tree>),
}

impl Tree {
    fn print(&self) -> String {
        match self {
            Tree::Leaf(int) => int.to_string(),
            Tree::Name => "S".to_owned(),
            Tree::Binary("ceil_div", a, b) => format!("ceil_div({}, {})", a.print(), b.print()),
            Tree::Binary(operator, a, b) => format!("({} {operator} {})", a.print(), b.print()),
            Tree::Chain(a, b, c) => format!("({} < {} <= {})", a.print(), b.print(), c.print()),
            Tree::Unary(operator, a) => format!("({operator} {})", a.print()),
        }
    }

    /// `None` where there is no value.
    fn value(&self) -> Option<i64> {
        match self {
            Tree::Leaf(int) => Some(*int),
            Tree::Name => Some(100),
            Tree::Binary("and", a, b) => Some(i64::from(a.value()? != 0 && b.value()? != 0)),
            Tree::Binary("or", a, b) => Some(i64::from(a.value()? != 0 || b.value()? != 0)),
            Tree::Binary(operator, a, b) => {
                let (a, b) = (i128::from(a.value()?), i128::from(b.value()?));
                let floor = |a: i128, b: i128| (b != 0).then(|| (a - a.rem_euclid(b.abs())) / b.abs() * b.signum());
                let result = match *operator {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => a * b,
                    "//" if b < 0 => floor(-a, -b)?,
                    "//" => floor(a, b)?,
                    "%" if b < 0 => a - b * floor(-a, -b)?,
                    "%" => a - b * floor(a, b)?,
                    "ceil_div" if b < 0 => -floor(a, -b)?,
                    "ceil_div" => -floor(-a, b)?,
                    "==" => i128::from(a == b),
                    ">" => i128::from(a > b),
                    _ => unreachable!("{operator}"),
                };
                i64::try_from(result).ok()
            }
            Tree::Chain(a, b, c) => {
                let (a, b) = (a.value()?, b.value()?);
                Some(i64::from(a < b && b <= c.value()?))
            }
            Tree::Unary("-", a) => a.value()?.checked_neg(),
            Tree::Unary(_, a) => Some(i64::from(a.value()? == 0)),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![(0..10i64).prop_map(Tree::Leaf), (0..=i64::MAX).prop_map(Tree::Leaf), Just(Tree::Name)];
    leaf.prop_recursive(6, 64, 3, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "//", "%", "ceil_div", "==", ">", "and", "or"]);
        let boxed = inner.prop_map(Box::new);
        prop_oneof![
            (operator, boxed.clone(), boxed.clone()).prop_map(|(o, a, b)| Tree::Binary(o, a, b)),
            (boxed.clone(), boxed.clone(), boxed.clone()).prop_map(|(a, b, c)| Tree::Chain(a, b, c)),
            (prop::sample::select(vec!["-", "not", "!"]), boxed).prop_map(|(o, a)| Tree::Unary(o, a)),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_the_obvious_evaluation(tree in tree()) {
        let expr = Expr::parse(&tree.print()).unwrap();
        let value = expr.eval(&lookup).ok();
        prop_assert_eq!(value.map(|value| match value {
            Value::Bool(bool) => i64::from(bool),
            Value::Int(int) => int,
            other => panic!("{other:?}"),
        }), tree.value());
    }

    #[test]
    fn never_panics(text in "[ A-Z0-9a-e.()+*/%<>=!&|'\"\\\\,§-]{0,40}") {
        if let Ok(expr) = Expr::parse(&text) {
            let _ = expr.eval(&|_| Some(Value::Int(3)));
            let _ = expr.eval(&|_| Some(Value::Str(String::new())));
        }
    }

    #[test]
    fn never_panics_on_plausible_text(words in prop::collection::vec(prop::sample::select(vec![
        "1", "0", "9223372036854775807", "2.5", "1e308", "S", "'s'", "+", "-", "*", "/", "//", "%", "<", "==", "and", "or",
        "not", "!", "(", ")", "min(", "sqrt(", "ceil_div(", ",", "true",
    ]), 0..24)) {
        if let Ok(expr) = Expr::parse(&words.join(" ")) {
            match expr.eval(&lookup) {
                Ok(Value::Float(float)) => prop_assert!(float.is_finite()),
                Ok(_) => {}
                Err(error) => prop_assert!(!matches!(error, EvalError::UnknownName(_))),
            }
        }
    }

    #[test]
    fn a_printed_number_reads_back(float in 0.0..1e300f64, int in 0..=i64::MAX) {
        prop_assert_eq!(eval(&Value::Float(float).to_string()), Value::Float(float));
        prop_assert_eq!(eval(&Value::Int(int).to_string()), Value::Int(int));
    }
}
