use std::sync::OnceLock;

/// Reason why a kernel was not launched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The length of a slice does not match the sizes.
    Length {
        /// The argument.
        argument: &'static str,
        /// Number of elements that the sizes require.
        expected: usize,
        /// Number of elements of the slice.
        found: usize,
    },
    /// The sizes have no launch: a number overflows, or is not whole where it has to be.
    Sizes,
    /// No variant was compiled for these sizes.
    NoVariant,
    /// An environment variable names no variant.
    UnknownVariant {
        /// The variable.
        variable: &'static str,
        /// Value of the variable.
        value: String,
    },
    // VARIANTS OF CUDA
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length { argument, expected, found } => {
                write!(f, "`{argument}` has {found} elements where the sizes ask for {expected}")
            }
            Self::Sizes => f.write_str("the kernel has no launch for these sizes"),
            Self::NoVariant => f.write_str("no variant was compiled for these sizes; export the kernel with a shape like them"),
            Self::UnknownVariant { variable, value } => {
                write!(f, "{variable}={value} names no variant; they are called v0, v1 and so on")
            }
            // ARMS OF CUDA
        }
    }
}

impl std::error::Error for Error {}

/// The rule that chose a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// An environment variable names the variant.
    Variable,
    /// The winner on this device at these sizes.
    SameSizes,
    /// The winner on this device at the nearest sizes.
    NearestSizes,
    /// The winner on another device of this architecture.
    OtherDevice,
    /// The table's default.
    Default,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Variable => "an environment variable names it",
            Self::SameSizes => "it won on this device at these sizes",
            Self::NearestSizes => "it won on this device at the nearest sizes",
            Self::OtherDevice => "it won on another device of this architecture",
            Self::Default => "it is the default",
        })
    }
}

/// A variant, and the rule that chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<V> {
    /// The variant.
    pub variant: V,
    /// The rule.
    pub rule: Rule,
}

/// A winner, with the device and the sizes of its search.
struct Tuned<const N: usize, V> {
    device: &'static str,
    arch: &'static str,
    dims: [usize; N],
    variant: V,
}

/// Distance of two sets of sizes.
#[allow(clippy::cast_precision_loss)]
fn distance<const N: usize>(a: [usize; N], b: [usize; N]) -> f64 {
    let ratio = |(a, b): (usize, usize)| (a.max(1) as f64 / b.max(1) as f64).ln().abs();
    a.into_iter().zip(b).map(ratio).sum()
}

/// The winner for a device and sizes, among those that are `usable`.
fn winner<const N: usize, V: Copy>(
    tuned: &[Tuned<N, V>],
    (device, arch): (&str, &str),
    dims: [usize; N],
    usable: impl Fn(V) -> bool,
) -> Option<Choice<V>> {
    let nearest = |on: &dyn Fn(&Tuned<N, V>) -> bool| {
        let found = tuned.iter().filter(|tuned| on(tuned) && usable(tuned.variant));
        found.min_by(|a, b| distance(a.dims, dims).total_cmp(&distance(b.dims, dims)))
    };
    if let Some(tuned) = nearest(&|tuned| tuned.device == device) {
        let rule = if tuned.dims == dims { Rule::SameSizes } else { Rule::NearestSizes };
        return Some(Choice { variant: tuned.variant, rule });
    }
    let tuned = nearest(&|tuned| tuned.arch == arch)?;
    Some(Choice { variant: tuned.variant, rule: Rule::OtherDevice })
}

/// The choice that an environment variable makes.
enum Named<V> {
    /// No choice: the variable is not set.
    Free,
    /// `default`: the default of the table.
    Default,
    /// This variant.
    Variant(Choice<V>),
}

/// The choice that an environment variable makes.
fn named<V: Copy>(
    variable: &'static str,
    cell: &'static OnceLock<Option<String>>,
    all: &[(V, &'static str)],
) -> Result<Named<V>, Error> {
    let Some(value) = cell.get_or_init(|| std::env::var(variable).ok()) else { return Ok(Named::Free) };
    if value == "default" {
        return Ok(Named::Default);
    }
    let found = all.iter().find(|(_, name)| name == value);
    let (variant, _) = found.ok_or_else(|| Error::UnknownVariant { variable, value: value.clone() })?;
    Ok(Named::Variant(Choice { variant: *variant, rule: Rule::Variable }))
}

/// Checks the length of an argument.
fn has_length(argument: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Length { argument, expected, found }) }
}

