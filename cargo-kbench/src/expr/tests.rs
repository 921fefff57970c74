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
        ("0xff & ~0x0F", Value::Int(0xf0)),
        ("0b101 + 0o17", Value::Int(20)),
        ("~5", Value::Int(-6)),
        ("~5 ** 2", Value::Int(-26)),
        ("-~5", Value::Int(6)),
        ("True and not False", Value::Bool(true)),
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
        ("2 ** 10", Value::Int(1024)),
        ("-2 ** 2", Value::Int(-4)),
        ("2 ** 3 ** 2", Value::Int(512)),
        ("2 ** -1", Value::Float(0.5)),
        ("(-1) ** 9223372036854775807", Value::Int(-1)),
        ("(-2) ** 63", Value::Int(i64::MIN)),
        ("0 ** 0", Value::Int(1)),
        ("HALF ** 2", Value::Float(0.25)),
        ("6 & 3 | 8 ^ 1", Value::Int(11)),
        ("1 + 1 << 2 * 2", Value::Int(32)),
        ("TILE_M & TILE_M - 1 == 0", Value::Bool(true)),
        ("-1 >> 100", Value::Int(-1)),
        ("0 << 100", Value::Int(0)),
        ("-1 << 63", Value::Int(i64::MIN)),
        ("-1 & 255", Value::Int(255)),
        ("TILE_M in [32, 64]", Value::Bool(true)),
        ("TILE_M not in (32, 64,)", Value::Bool(false)),
        ("not TILE_M in [32]", Value::Bool(true)),
        ("MODE in ['slow', 'fast'] and S + 1 in [101]", Value::Bool(true)),
        ("1 in [1.0]", Value::Bool(true)),
        ("1 if ON else 2", Value::Int(1)),
        ("1 / 0 if not ON else 2 if S < 0 else 3", Value::Int(3)),
        ("(1 if S > 5 else 0) + 1", Value::Int(2)),
        ("2 * S if S > 5 and ON else S", Value::Int(200)),
        ("(1 if S > 200 else 2) if 1 < S < 200 else 3", Value::Int(2)),
        ("abs(-3) + abs(2)", Value::Int(5)),
        ("abs(-0.5)", Value::Float(0.5)),
        ("log2(64)", Value::Int(6)),
        ("1 << log2(TILE_M)", Value::Int(64)),
        ("log2(0.5)", Value::Float(-1.0)),
        ("is_power_of_two(TILE_M)", Value::Bool(true)),
        ("is_power_of_two(0) or is_power_of_two(-2) or is_power_of_two(6)", Value::Bool(false)),
        ("is_power_of_two(1)", Value::Bool(true)),
        (r#"MODE != "it's""#, Value::Bool(true)),
        (r"'it\'s' == 'it\'s'", Value::Bool(true)),
    ] {
        assert_eq!(eval(text), value, "{text}");
    }
}

#[test]
fn errors_name_the_part_of_the_expression() {
    insta::assert_snapshot!(eval_error("1 + 9223372036854775807 * 2"), @"4..27 overflow in `9223372036854775807 * 2`");
    insta::assert_snapshot!(eval_error("S % (TILE_M - 64) == 0"), @"0..17 division by zero in `S % (TILE_M - 64)`");
    insta::assert_snapshot!(eval_error("TILE_M + TILE_X"), @"9..15 unknown name `TILE_X`");
    insta::assert_snapshot!(eval_error("MODE * 2"), @"0..8 a string in arithmetic: `MODE * 2`");
    insta::assert_snapshot!(eval_error("MODE == 2"), @"0..9 a string against a number: `MODE == 2`");
    insta::assert_snapshot!(eval_error("MODE < 'z'"), @"0..10 strings have no order: `MODE < 'z'`");
    insta::assert_snapshot!(eval_error("ON and MODE"), @"0..11 a string is neither true nor false: `ON and MODE`");
    insta::assert_snapshot!(eval_error("sqrt(1 - 2)"), @"0..11 square root of a negative number: `sqrt(1 - 2)`");
    insta::assert_snapshot!(eval_error("1 + 2 ** 63"), @"4..11 overflow in `2 ** 63`");
    insta::assert_snapshot!(eval_error("1 << 63"), @"0..7 overflow in `1 << 63`");
    insta::assert_snapshot!(eval_error("3 << 62"), @"0..7 overflow in `3 << 62`");
    insta::assert_snapshot!(eval_error("1 << 2 - 3"), @"0..10 a shift by a negative number: `1 << 2 - 3`");
    insta::assert_snapshot!(eval_error("S >> -1"), @"0..7 a shift by a negative number: `S >> -1`");
    insta::assert_snapshot!(eval_error("HALF & 1"), @"0..8 a float where an integer is needed: `HALF & 1`");
    insta::assert_snapshot!(eval_error("0 ** -1"), @"0..7 division by zero in `0 ** -1`");
    insta::assert_snapshot!(eval_error("(-1) ** HALF"), @"0..12 a power that is no real number: `(-1) ** HALF`");
    insta::assert_snapshot!(eval_error("1 + log2(0)"), @"4..11 logarithm of a number that is not positive: `log2(0)`");
    insta::assert_snapshot!(eval_error("is_power_of_two(HALF)"), @"0..21 a float where an integer is needed: `is_power_of_two(HALF)`");
    insta::assert_snapshot!(eval_error("1 in ['a', 1]"), @"0..13 a string against a number: `1 in ['a', 1]`");
    insta::assert_snapshot!(eval_error("1 if MODE else 2"), @"5..9 a string is neither true nor false: `MODE`");
    insta::assert_snapshot!(eval_error("1 / 0 if ON else 2"), @"0..5 division by zero in `1 / 0`");
    insta::assert_snapshot!(eval_error("abs(-9223372036854775807 - 1)"), @"0..29 overflow in `abs(-9223372036854775807 - 1)`");
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
    insta::assert_snapshot!(parse_error("a ? 2"), @"2..3 unexpected `?`; a conditional is `a if condition else b`");
    insta::assert_snapshot!(parse_error("a if b"), @"6..6 expected `else` at the end");
    insta::assert_snapshot!(parse_error("a in b"), @"5..6 expected `[`, found `b`");
    insta::assert_snapshot!(parse_error("a in []"), @"6..7 expected a value, found `]`");
    insta::assert_snapshot!(parse_error("a in [1, 2"), @"10..10 expected `]` at the end");
    insta::assert_snapshot!(parse_error("a < b in [1]"), @"6..8 expected an operator, found `in`");
    insta::assert_snapshot!(parse_error("a in [1] == b"), @"9..11 expected an operator, found `==`");
    insta::assert_snapshot!(parse_error("a not b"), @"2..5 expected an operator, found `not`");
    insta::assert_snapshot!(parse_error("if + 1"), @"0..2 expected a value, found `if`");
    assert!(parse_error(&"1 if 1 else ".repeat(100_000)).contains("nested more than 64 levels deep"));
    assert!(parse_error(&"2 ** ".repeat(100_000)).contains("nested more than 64 levels deep"));
    insta::assert_snapshot!(parse_error("a + §"), @"4..6 unexpected `§`");
    insta::assert_snapshot!(parse_error("'abc"), @"0..4 a string without its closing quote");
    insta::assert_snapshot!(parse_error("99999999999999999999"), @"0..20 a number out of range");
    insta::assert_snapshot!(parse_error("ceil(1, 2)"), @"0..4 no function `ceil`; there are `ceil_div`, `min`, `max`, `sqrt`, `abs`, `log2` and `is_power_of_two`");
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

/// A tree that is printed, and evaluated by simple recursion, for comparison.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(i64),
    Name,
    Binary(&'static str, Box<Tree>, Box<Tree>),
    Chain(Box<Tree>, Box<Tree>, Box<Tree>),
    Unary(&'static str, Box<Tree>),
    Call(&'static str, Box<Tree>),
    Power(Box<Tree>, u32),
    /// `not in` if the flag is true, otherwise `in`.
    Member(bool, Box<Tree>, Vec<Tree>),
    /// A condition and the two values.
    Conditional(Box<Tree>, Box<Tree>, Box<Tree>),
}

/// The binary operators, from the weakest level of precedence to the tightest.
const LEVELS: [&[&str]; 10] =
    [&["or"], &["and"], &["not"], &["==", ">"], &["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "//", "%"]];
const CONDITIONAL: usize = 0;
const COMPARISON: usize = 4;
const SIGN: usize = 11;
const POWER: usize = 12;
const PRIMARY: usize = 13;

impl Tree {
    fn level(&self) -> usize {
        match self {
            Tree::Conditional(..) => CONDITIONAL,
            Tree::Chain(..) | Tree::Member(..) => COMPARISON,
            Tree::Power(..) => POWER,
            Tree::Leaf(_) | Tree::Name | Tree::Call(..) | Tree::Binary("ceil_div", ..) => PRIMARY,
            Tree::Unary("-" | "!", _) => SIGN,
            Tree::Binary(operator, ..) | Tree::Unary(operator, _) => {
                1 + LEVELS.iter().position(|level| level.contains(operator)).unwrap()
            }
        }
    }

    /// Prints with all parentheses, or only with those that precedence needs for an operand of at least level `least`.
    fn print(&self, all: bool, least: usize) -> String {
        let own = self.level();
        let of = |tree: &Tree, least: usize| tree.print(all, least);
        let text = match self {
            Tree::Leaf(int) => int.to_string(),
            Tree::Name => "S".to_owned(),
            Tree::Binary("ceil_div", a, b) => format!("ceil_div({}, {})", of(a, CONDITIONAL), of(b, CONDITIONAL)),
            // Comparisons without parentheses would chain.
            Tree::Binary(operator, a, b) => {
                format!("{} {operator} {}", of(a, own + usize::from(own == COMPARISON)), of(b, own + 1))
            }
            Tree::Chain(a, b, c) => format!("{} < {} <= {}", of(a, own + 1), of(b, own + 1), of(c, own + 1)),
            Tree::Unary(operator, a) => format!("{operator} {}", of(a, own)),
            Tree::Call(function, a) => format!("{function}({})", of(a, CONDITIONAL)),
            Tree::Power(a, exponent) => format!("{} ** {exponent}", of(a, PRIMARY)),
            Tree::Member(negated, a, elements) => {
                let elements: Vec<String> = elements.iter().map(|element| of(element, CONDITIONAL)).collect();
                let not = if *negated { "not " } else { "" };
                format!("{} {not}in [{}]", of(a, own + 1), elements.join(", "))
            }
            Tree::Conditional(condition, a, b) => {
                format!("{} if {} else {}", of(a, 1), of(condition, 1), of(b, CONDITIONAL))
            }
        };
        let needed = if all { own < PRIMARY } else { own < least };
        if needed { format!("({text})") } else { text }
    }

    /// The value; `None` if there is none.
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
                    "&" => a & b,
                    "|" => a | b,
                    "^" => a ^ b,
                    "<<" | ">>" if b < 0 => return None,
                    "<<" if a == 0 => 0,
                    "<<" if b < 64 => a << b,
                    "<<" => return None,
                    ">>" => floor(a, 1 << b.min(100))?,
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
            Tree::Call("abs", a) => a.value()?.checked_abs(),
            Tree::Call(_, a) => {
                let value = a.value()?;
                Some(i64::from((0..63).any(|exponent| value == 1 << exponent)))
            }
            Tree::Power(a, exponent) => {
                let base = a.value()?;
                (0..*exponent).try_fold(1, |power: i64, _| power.checked_mul(base))
            }
            Tree::Member(negated, a, elements) => {
                let value = a.value()?;
                let elements = elements.iter().map(Tree::value).collect::<Option<Vec<i64>>>()?;
                Some(i64::from(elements.contains(&value) != *negated))
            }
            Tree::Conditional(condition, a, b) => {
                if condition.value()? != 0 {
                    a.value()
                } else {
                    b.value()
                }
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![(0..10i64).prop_map(Tree::Leaf), (0..=i64::MAX).prop_map(Tree::Leaf), Just(Tree::Name)];
    leaf.prop_recursive(6, 64, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "//", "%", "ceil_div", "==", ">", "and", "or", "&", "|", "^", "<<", ">>",
        ]);
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            4 => (operator, boxed.clone(), boxed.clone()).prop_map(|(o, a, b)| Tree::Binary(o, a, b)),
            1 => (boxed.clone(), boxed.clone(), boxed.clone()).prop_map(|(a, b, c)| Tree::Chain(a, b, c)),
            1 => (boxed.clone(), boxed.clone(), boxed.clone()).prop_map(|(c, a, b)| Tree::Conditional(c, a, b)),
            1 => (any::<bool>(), boxed.clone(), prop::collection::vec(inner, 1..3))
                .prop_map(|(negated, a, elements)| Tree::Member(negated, a, elements)),
            1 => (boxed.clone(), 0..5u32).prop_map(|(a, exponent)| Tree::Power(a, exponent)),
            1 => (prop::sample::select(vec!["abs", "is_power_of_two"]), boxed.clone())
                .prop_map(|(function, a)| Tree::Call(function, a)),
            2 => (prop::sample::select(vec!["-", "not", "!"]), boxed).prop_map(|(o, a)| Tree::Unary(o, a)),
        ]
    })
}

proptest! {
    /// The text with all parentheses and the text with only the necessary ones have the value of the tree.
    #[test]
    fn agrees_with_the_obvious_evaluation(tree in tree()) {
        for all in [true, false] {
            let text = tree.print(all, CONDITIONAL);
            let expr = Expr::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let value = expr.eval(&lookup).ok();
            prop_assert_eq!(value.map(|value| match value {
                Value::Bool(bool) => i64::from(bool),
                Value::Int(int) => int,
                other => panic!("{other:?}"),
            }), tree.value(), "{}", text);
        }
    }

    #[test]
    fn never_panics(text in "[ A-Z0-9a-e.()\\[\\]+*/%<>=!&|^'\"\\\\,§-]{0,40}") {
        if let Ok(expr) = Expr::parse(&text) {
            let _ = expr.eval(&|_| Some(Value::Int(3)));
            let _ = expr.eval(&|_| Some(Value::Str(String::new())));
        }
    }

    #[test]
    fn never_panics_on_plausible_text(words in prop::collection::vec(prop::sample::select(vec![
        "1", "0", "9223372036854775807", "2.5", "1e308", "S", "'s'", "+", "-", "*", "/", "//", "%", "<", "==", "and", "or",
        "not", "!", "(", ")", "min(", "sqrt(", "ceil_div(", ",", "true", "**", "&", "|", "^", "<<", ">>", "in", "[", "]", "if",
        "else", "abs(", "log2(", "is_power_of_two(",
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
