//! Text of `autotune --dry-run`.

use std::fmt::Write as _;

use super::count;
use crate::text::grouped;
use crate::tune::Plan;

/// The plan as aligned text, a newline at its end.
pub fn planned(plan: &Plan) -> String {
    let mut text = String::new();
    for (at, settings) in plan.first.iter().enumerate() {
        let title = if at == 0 { "tried first" } else { "" };
        let _ = writeln!(text, "  {title:<12}{settings}");
    }
    let most = plan.most.map_or_else(
        || "as many as the budget allows".to_owned(),
        |most| format!("at most {} variants, and the finals", grouped(most.into())),
    );
    let _ = writeln!(text, "  {:<12}{most}", "tries");
    let takes = match (plan.seconds, plan.last) {
        (Some(seconds), Some((evaluated, last))) => {
            let variants = count(evaluated, "variant");
            format!("about {seconds:.0} s; the last search took {last:.1} s for {variants}")
        }
        (Some(seconds), None) => format!("at most {seconds:.0} s by the budget, and the finals"),
        (None, _) => "not known: no search of this kernel is on record, and the budget has no `seconds`".to_owned(),
    };
    let _ = writeln!(text, "  {:<12}{takes}", "takes");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Value;
    use crate::space::Settings;

    #[test]
    fn output_is_as_documented() {
        let first: Vec<Settings> = [16, 32].map(|size| Settings(vec![("SIZE".to_owned(), Value::Int(size))])).to_vec();
        let plan = Plan { first, most: Some(1200), seconds: Some(96.4), last: Some((25, 2.01)) };
        let by_budget = Plan { last: None, seconds: Some(60.0), first: Vec::new(), ..plan.clone() };
        let unknown = Plan { seconds: None, most: None, ..by_budget.clone() };
        insta::assert_snapshot!([plan, by_budget, unknown].map(|plan| planned(&plan)).join("\n"), @r"
          tried first SIZE=16
                      SIZE=32
          tries       at most 1,200 variants, and the finals
          takes       about 96 s; the last search took 2.0 s for 25 variants

          tries       at most 1,200 variants, and the finals
          takes       at most 60 s by the budget, and the finals

          tries       as many as the budget allows
          takes       not known: no search of this kernel is on record, and the budget has no `seconds`
        ");
    }
}
