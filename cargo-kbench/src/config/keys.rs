//! Every key of the table: name, type and documentation. This list is the source for errors about unknown keys and wrong
//! types, for the inheritance of tables, and for the JSON schema.
//! Longer than 400 lines: the file is one table with a line for each key.

use super::keys::Kind::{
    Any, AnyNumber, Bool, Choice, ChoiceOr, Expression, Integer, List, Map, Number, OneOrMore, Text, ToggleValue,
    Within,
};

/// A type of value.
#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    /// An integer of at least this value.
    Integer(i64),
    /// A number of at least this value.
    Number(f64),
    Text,
    /// One of these words; those of the second list are accepted and never suggested.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// A string, or a number that stands for itself.
    Expression,
    /// A string, a number, an infinity or NaN.
    AnyNumber,
    /// An integer, a float, a boolean or a string.
    ToggleValue,
    List(&'static Kind),
    /// One value of this kind, or an array of them.
    OneOrMore(&'static Kind),
    /// A table with these keys.
    Within(&'static Keys),
    /// A table with keys of the user's choice; the noun for such a key.
    Map(&'static str, &'static Kind),
    /// A string, or a table with these keys.
    TextOr(&'static Keys),
    /// One of these words, or a table with these keys.
    ChoiceOr(&'static [&'static str], &'static Keys),
    /// An array, or a table with these keys.
    ListOr(&'static Kind, &'static Keys),
    /// One of these words, or an array.
    ChoiceOrList(&'static [&'static str], &'static Kind),
    /// A key of a later version, with any value.
    Any,
}

/// The keys of a table.
#[derive(Debug)]
pub(super) struct Keys {
    /// Noun for the table in messages: "a kernel".
    pub(super) noun: &'static str,
    pub(super) list: &'static [Key],
    /// Whether a table of an inner manifest replaces that of an outer one completely: its keys exclude each other.
    pub(super) whole: bool,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) doc: &'static str,
}

impl Kind {
    /// Whether a table of this kind takes missing entries from a table further out.
    pub(super) fn merges(&self) -> bool {
        match self {
            Within(keys) | ChoiceOr(_, keys) => !keys.whole,
            Map(..) => true,
            _ => false,
        }
    }

    /// The kind of the value under `key`, in a table of this kind.
    pub(super) fn of_entry(&self, key: &str) -> &Kind {
        match self {
            Within(keys) | ChoiceOr(_, keys) | Kind::ListOr(_, keys) => keys.get(key).map_or(&Any, |key| &key.kind),
            Map(_, kind) => kind,
            _ => &Any,
        }
    }
}

impl Keys {
    pub(super) fn get(&self, name: &str) -> Option<&Key> {
        self.list.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: false, doc }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: true, doc }
}

const fn keys(noun: &'static str, list: &'static [Key]) -> Keys {
    Keys { noun, list, whole: false }
}

const fn whole(noun: &'static str, list: &'static [Key]) -> Keys {
    Keys { noun, list, whole: true }
}

const LEVELS: &[&str] = &["allow", "warn", "deny"];
const LEVEL: Kind = Choice(LEVELS, &[]);
const STRATEGY: Kind = Choice(&["auto", "evo", "random", "annealing", "genetic", "exhaustive"], &[]);
const BACKEND: Kind = Choice(&["cuda", "c"], &["fake"]);
const DTYPE: Kind = Choice(
    &["f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"],
    &[],
);
const SCALAR: Kind = Choice(
    &[
        "f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool",
        "char",
    ],
    &[],
);
const TEXTS: Kind = List(&Text);
const ARGS: Kind = List(&ARG_OR_TENSOR);
static ARG_OR_TENSOR: Kind = Kind::TextOr(&ARG);
const SIZES: Kind = OneOrMore(&Expression);
const FLAGS: Kind = List(&Kind::TextOr(&FLAG));
const VALUES: Kind = Map("toggle", &Kind::ListOr(&ToggleValue, &RANGE));
const DEFINES: Kind = Map("macro", &Expression);
const HEADERS: Kind = Map("header", &Text);

const BACKEND_DOC: &str = "Compiler and device: \"cuda\" is nvcc and a GPU, \"c\" the C or C++ compiler and this machine's CPU; \
                           by default chosen by the source's extension";
const SOURCE_DOC: &str = "Source file, relative to this manifest; {TOGGLE} chooses among files";
const ENTRY_DOC: &str = "Name of the function: an extern \"C\" name, a C++ name, or an instance of a template with toggles and \
                         dimensions in it, \"ns::kernel<float, TILE>\"; {TOGGLE} chooses among functions";
const FLAGS_DOC: &str = "Compiler flags: strings, in which {TOGGLE} is an expression (\"-maxrregcount={REGS}\"), or \
                         { flag = \"--use_fast_math\", when = \"FAST\" }";
const DEFINES_DOC: &str = "Macros passed as -D beside the toggles: expressions over dimensions and toggles";
const HEADERS_DOC: &str = "Texts of headers, by file name, which compilers find before all but those beside the source: stubs for headers that a source includes and does not need";
const GRID_DOC: &str = "Blocks in x, y and z: expressions over dimensions, toggles, SM_COUNT, MAX_SHARED and WARP";
const BLOCK_DOC: &str = "Threads of a block in x, y and z: expressions over dimensions and toggles";
const CLUSTER_DOC: &str = "Blocks of a thread-block cluster in x, y and z";
const SHARED_DOC: &str = "Bytes of dynamic shared memory";
const COOPERATIVE_DOC: &str = "Cooperative launch, for grid-wide synchronisation";
const ARGS_DOC: &str = "Arguments in the order of the signature: names of tensors, scalars, tensor maps and symbols";

const LAUNCHES_DOC: &str = "Several launches that together are one run, in order on one stream, in place of `entry`, `grid`, `block` and `args`";
const LAUNCHES: Kind = List(&Within(&LAUNCH));

const CONSTRAINTS_DOC: &str = "Expressions over toggles that must be true. Operators, from the weakest to the tightest, as in Python: \
                               a if c else b; or; and; not; == != < <= > >= (they chain), in [a, b], not in; |; ^; &; << >>; \
                               + -; * / // %; sign, !, ~; **. / keeps fractions, // rounds down. Functions: ceil_div, min, max, \
                               sqrt, abs, log2, is_power_of_two";

/// The key of a package's table that holds the kernels.
pub(super) static PACKAGE_KERNELS: Key =
    key("kernels", Map("kernel", &Within(&KERNEL)), "The kernels of this package, by name");

pub(super) static KERNEL: Keys = keys(
    "a kernel",
    &[
        key("backend", BACKEND, BACKEND_DOC),
        required("source", Text, SOURCE_DOC),
        key("entry", Text, ENTRY_DOC),
        key(
            "arch",
            TEXTS,
            "Architectures to compile for (\"sm_90a\"); by default the architecture of this machine's GPU",
        ),
        key("flags", FLAGS, FLAGS_DOC),
        key("defines", DEFINES, DEFINES_DOC),
        key("headers", HEADERS, HEADERS_DOC),
        key("grid", SIZES, GRID_DOC),
        key("block", SIZES, BLOCK_DOC),
        key("cluster", SIZES, CLUSTER_DOC),
        key("dynamic_shared", Expression, SHARED_DOC),
        key("cooperative", Bool, COOPERATIVE_DOC),
        key("args", ARGS, ARGS_DOC),
        key("launches", LAUNCHES, LAUNCHES_DOC),
        key("work", Within(&WORK), "Operations and bytes of one run, for TFLOP/s, GB/s and the roofline"),
        required(
            "shapes",
            Map("shape", &Map("dimension", &Integer(1))),
            "Named problem sizes: a table of dimensions each; the first is the default",
        ),
        required("tensors", Map("tensor", &Within(&TENSOR)), "Named tensors"),
        key("toggles", Within(&TOGGLES), "Toggles with their values: macros, constants, sizes of the launch"),
        required("reference", Within(&REFERENCE), "Function or program that computes the right outputs"),
        key(
            "baselines",
            Map("baseline", &Within(&BASELINE)),
            "Kernels, functions and programs whose times the kernel is compared with, by name",
        ),
        key("gates", Within(&GATES), "Limits of the gates, and their severity"),
        key("timing", Within(&TIMING), "Settings of the time measurement"),
        key("search", Within(&SEARCH), "Settings of `autotune`: strategy, objective, budget"),
        key("runner", TEXTS, "Command prefix that starts the worker elsewhere: [\"srun\", \"--gpus=1\"]"),
        key(
            "workers",
            OneOrMore(&Within(&WORKERS)),
            "Workers of `autotune`, which measure variants at the same time; by default one on every GPU of this machine",
        ),
    ],
);

static WORKERS: Keys = whole(
    "workers",
    &[
        key(
            "runner",
            TEXTS,
            "Command prefix that starts each worker: [\"ssh\", \"gpu1\"]; by default the kernel's `runner`",
        ),
        key(
            "count",
            Integer(1),
            "Number of workers; by default one with a runner, and one for each GPU without a runner",
        ),
        key(
            "path",
            Text,
            "Path of `cargo-kbench` on the workers' machine; by default its path on this machine, and a copy is sent if it is not there",
        ),
    ],
);

static LAUNCH: Keys = whole(
    "a launch",
    &[
        required("entry", Text, ENTRY_DOC),
        key("grid", SIZES, GRID_DOC),
        key("block", SIZES, BLOCK_DOC),
        key("cluster", SIZES, CLUSTER_DOC),
        key("dynamic_shared", Expression, SHARED_DOC),
        key("cooperative", Bool, COOPERATIVE_DOC),
        required("args", ARGS, ARGS_DOC),
        key(
            "when",
            Expression,
            "Condition over dimensions and toggles; the launch is left out where the condition is false",
        ),
        key(
            "zero",
            TEXTS,
            "Outputs and scratch tensors that are filled with zero bytes before the launch, inside the timed run",
        ),
    ],
);

static WORK: Keys = keys(
    "work",
    &[
        key("flops", Expression, "Floating-point operations of one run"),
        key("bytes", Expression, "Bytes that one run moves at least"),
    ],
);

static FLAG: Keys = whole(
    "a flag",
    &[
        required("flag", Text, "The flag, in which {TOGGLE} is an expression"),
        required(
            "when",
            Expression,
            "Condition over dimensions and toggles; the flag is left out where the condition is false",
        ),
    ],
);

pub(super) static ARG: Keys = whole(
    "an argument",
    &[
        key("scalar", SCALAR, "A scalar of this type; \"bool\" and \"char\" are those of C"),
        key("value", Expression, "The scalar's value: an expression over dimensions and toggles"),
        key("tensor_map", Text, "A TMA tensor map over this tensor"),
        key("dims", SIZES, "Sizes in the tensor map, outermost first; by default the tensor's"),
        key("box", SIZES, "Box sizes of the tensor map, outermost first"),
        key("swizzle", Integer(0), "Swizzle of the tensor map in bytes: 0, 32, 64 or 128"),
        key(
            "symbol",
            Text,
            "A __constant__ or __device__ symbol that a tensor is copied to before the run; not in the signature",
        ),
        key(
            "tensor",
            Text,
            "The tensor that is copied to `symbol`; with `offset`, the tensor whose element's address is passed",
        ),
        key("offset", Expression, "Number of elements of the tensor before the passed address"),
        key("struct", List(&ARG_OR_TENSOR), "A struct by value, laid out as C does: tensors, scalars and structs"),
        key("type", Text, "The struct's type in the source, \"struct view\"; needed in C"),
    ],
);

static TENSOR: Keys = keys(
    "a tensor",
    &[
        required("dtype", DTYPE, "Element type"),
        required("dims", SIZES, "Sizes, outermost first: expressions over dimensions and toggles; [] is one element"),
        key(
            "role",
            Choice(&["in", "out", "inout", "scratch"], &[]),
            "Use of the tensor by the kernel; \"in\" by default",
        ),
        key(
            "clobber",
            Bool,
            "Whether the kernel may spoil this input: the contents are restored before each launch, outside of the measured time",
        ),
        key("init", Within(&INIT), "Source of the contents before a launch"),
        key("quantize", Within(&QUANTIZE), "Quantised from another tensor: value = round(from / scale)"),
    ],
);

static INIT: Keys = whole(
    "init",
    &[
        key("normal", Within(&NORMAL), "Normal distribution; the default of floating-point inputs"),
        key("uniform", Within(&UNIFORM), "Uniform distribution over low to high, high excluded"),
        key(
            "integers",
            Within(&INTEGERS),
            "Uniform integers, both ends included; 0 to 15 is the default of integer inputs",
        ),
        key("arange", Within(&ARANGE), "start + step * index"),
        key(
            "constant",
            AnyNumber,
            "Value of all elements: a number, inf, -inf, nan, or an expression over dimensions and toggles",
        ),
        key(
            "offsets",
            Expression,
            "Starts of rows of random lengths (CSR): ascending integers, the first 0, the last the value of this expression",
        ),
        key("file", Text, "A .npy or .safetensors file, relative to this manifest"),
        key(
            "command",
            TEXTS,
            "A program that writes a .npy file, or a .safetensors file where `tensor` is given; {N} is an expression over dimensions, and the \
             path of the file is the last argument. The program runs once for each shape, and again after the command or a file that it names changed",
        ),
        key("tensor", Text, "The tensor's name in a .safetensors file"),
        key(
            "from",
            OneOrMore(&Text),
            "Derived from another tensor, or from several, stacked along a new first axis; converted to this dtype",
        ),
        key("view", SIZES, "The sizes that the elements of `from` are viewed as; by default their own"),
        key(
            "axes",
            List(&Integer(0)),
            "Which axis of the view each axis is, [1, 0] transposes; by default all in order",
        ),
        key("border", Within(&BORDER), "A border around the contents of `from`"),
    ],
);

static BORDER: Keys = whole(
    "border",
    &[
        required("width", SIZES, "Elements at either end of each axis, or one width for all axes"),
        key("value", AnyNumber, "The value there; 0"),
    ],
);

static NORMAL: Keys = whole(
    "normal",
    &[key("mean", Number(f64::MIN), "Mean; 0 by default"), key("std", Number(0.0), "Standard deviation; 1 by default")],
);

static UNIFORM: Keys = whole(
    "uniform",
    &[required("low", Number(f64::MIN), "Lower end"), required("high", Number(f64::MIN), "Upper end, excluded")],
);

static INTEGERS: Keys = whole(
    "integers",
    &[
        required("low", Expression, "Smallest value: an integer, or an expression over dimensions"),
        required(
            "high",
            Expression,
            "Largest value: an integer, or an expression over dimensions, such as \"N - 1\" for indices of N elements",
        ),
    ],
);

static ARANGE: Keys = whole(
    "arange",
    &[
        key("start", Number(f64::MIN), "First value; 0 by default"),
        key("step", Number(f64::MIN), "Difference of neighbours; 1 by default"),
    ],
);

static QUANTIZE: Keys = whole(
    "quantize",
    &[
        required("from", Text, "The tensor with the values"),
        required("scale", Text, "The tensor that receives the scales; one scale for each of its elements"),
    ],
);

static TOGGLES: Keys = keys(
    "toggles",
    &[
        key(
            "macro",
            VALUES,
            "Macros that change the structure of the kernel, with their values as an array or a range; the strategy \"evo\" searches them first",
        ),
        key(
            "micro",
            VALUES,
            "Macros that change details, with their values as an array or a range; the strategy \"evo\" searches them for the best structures",
        ),
        key(
            "constant",
            VALUES,
            "Typed constants in place of macros (constexpr, an enum in C), for `#pragma unroll NAME` and template arguments",
        ),
        key(
            "launch",
            VALUES,
            "Values that are not compiled in: they reach the kernel only where grid, block, arguments, flags, entry, … name them",
        ),
        key("default", Map("toggle", &ToggleValue), "The default variant; by default the first value of each toggle"),
        key("constraints", TEXTS, CONSTRAINTS_DOC),
    ],
);

static RANGE: Keys = whole(
    "a range",
    &[
        key("from", Integer(i64::MIN), "The first value"),
        key("to", Integer(i64::MIN), "The upper end, which is a value itself if the steps reach it"),
        key("step", Integer(1), "Difference of neighbours; 1 by default"),
        key(
            "powers_of_two",
            List(&Integer(1)),
            "All powers of two from the first number to the second, in place of the other keys",
        ),
    ],
);

static REFERENCE: Keys = keys(
    "a reference",
    &[
        key("backend", BACKEND, BACKEND_DOC),
        key("source", Text, SOURCE_DOC),
        key("entry", Text, ENTRY_DOC),
        key("flags", FLAGS, FLAGS_DOC),
        key("defines", DEFINES, DEFINES_DOC),
        key("headers", HEADERS, HEADERS_DOC),
        key("grid", SIZES, GRID_DOC),
        key("block", SIZES, BLOCK_DOC),
        key("cluster", SIZES, CLUSTER_DOC),
        key("dynamic_shared", Expression, SHARED_DOC),
        key("cooperative", Bool, COOPERATIVE_DOC),
        key("args", ARGS, "Its arguments; by default those of the kernel"),
        key("launches", LAUNCHES, LAUNCHES_DOC),
        key(
            "precision",
            Choice(&["f64", "f32"], &[]),
            "Type in which the reference gets every floating-point tensor; \"f64\" by default",
        ),
        key("command", TEXTS, "A program and its arguments, in place of a function; started in the package's folder"),
    ],
);

pub(super) static BASELINE: Keys = whole(
    "a baseline",
    &[
        key(
            "toggles",
            Map("toggle", &ToggleValue),
            "A variant of the kernel; toggles not named have their default value",
        ),
        key("kernel", Text, "Another kernel of this package, at its default variant"),
        key("command", TEXTS, "A program that speaks kbench's baseline protocol; started in the package's folder"),
        key("correctness", Within(&PROGRAM), "Limits of a program's errors; by default those of the kernel"),
        key("backend", BACKEND, BACKEND_DOC),
        key(
            "source",
            Text,
            "Source file of another function over the same tensors; keys that are left out are those of the kernel",
        ),
        key("entry", Text, ENTRY_DOC),
        key("flags", FLAGS, FLAGS_DOC),
        key("defines", DEFINES, DEFINES_DOC),
        key("headers", HEADERS, HEADERS_DOC),
        key("grid", SIZES, GRID_DOC),
        key("block", SIZES, BLOCK_DOC),
        key("cluster", SIZES, CLUSTER_DOC),
        key("dynamic_shared", Expression, SHARED_DOC),
        key("cooperative", Bool, COOPERATIVE_DOC),
        key("args", ARGS, "Its arguments; by default those of the kernel"),
        key("launches", LAUNCHES, LAUNCHES_DOC),
    ],
);

static GATES: Keys = keys(
    "gates",
    &[
        key(
            "resources",
            Within(&RESOURCES),
            "Gate 1: limits on registers, memory, code size and occupancy of the compiled kernel",
        ),
        key("correctness", Within(&CORRECTNESS), "Gate 2: errors against the reference"),
        key("performance", List(&Within(&PERFORMANCE)), "Gate 3: times and speed-ups"),
        key("performance_level", LEVEL, "Severity of gate 3; \"deny\" by default"),
        key(
            "counters",
            ChoiceOr(LEVELS, &COUNTERS),
            "Gate 4: conditions on hardware counters, for variants that passed the other gates: a level, or a table; off by default",
        ),
        key(
            "sanitize",
            ChoiceOr(LEVELS, &SANITIZE),
            "Launches under sanitizers, for variants that passed gates 1 to 3: a level, or a table; off by default",
        ),
    ],
);

static COUNTERS: Keys = keys(
    "counters",
    &[
        key("level", LEVEL, "Severity; \"deny\" by default"),
        key(
            "any",
            TEXTS,
            "Conditions of which one must hold: \"dram__throughput < 50\". Metrics are ncu's (CUDA), perf__ (C) and roofline__; \
             by default [\"sm__pipe_tensor_cycles_active >= 50\", \"dram__throughput < 50\"], in C the same conditions on roofline__",
        ),
        key("all", TEXTS, "Conditions that must all hold"),
        key("shapes", TEXTS, "Names of shapes; by default the shape of the search"),
    ],
);

static SANITIZE: Keys = keys(
    "sanitize",
    &[
        key("level", LEVEL, "Severity; \"deny\" by default"),
        key(
            "tools",
            List(&Choice(&["memcheck", "racecheck", "initcheck", "synccheck", "address", "undefined"], &[])),
            "Tools to run: memcheck, racecheck, initcheck, synccheck (CUDA), address, undefined (C); by default all",
        ),
        key("shapes", TEXTS, "Names of shapes; by default the one with the smallest product of dimensions"),
        key("timeout_seconds", Integer(1), "Deadline of one launch under a tool in seconds; 120 by default"),
    ],
);

static RESOURCES: Keys = keys(
    "resources",
    &[
        key("level", LEVEL, "Severity; \"deny\" by default"),
        key("max_registers", Integer(0), "Registers of a thread (CUDA)"),
        key("max_shared_bytes", Integer(0), "Static plus dynamic shared memory of a block in bytes (CUDA)"),
        key("max_spill_bytes", Integer(0), "Spill stores plus spill loads in bytes (CUDA)"),
        key("max_stack_bytes", Integer(0), "Stack frame of a thread in bytes"),
        key("max_code_bytes", Integer(0), "Machine code of the entry function in bytes"),
        key("min_occupancy", Number(0.0), "Theoretical occupancy, 0 to 1 (CUDA)"),
    ],
);

static CORRECTNESS: Keys = keys(
    "correctness",
    &[
        key("level", LEVEL, "Severity; \"deny\" by default"),
        key("max_abs_err", Number(0.0), "Largest absolute error"),
        key("max_mean_err", Number(0.0), "Mean absolute error"),
        key("max_rms_err", Number(0.0), "Root mean square of the error over that of the reference"),
        key("max_bias", Number(0.0), "Absolute mean signed error over the root mean square of the reference"),
        key("max_bad_fraction", Number(0.0), "Share of elements whose error may exceed max_abs_err; 0 by default"),
        key(
            "max_bias_ratio",
            Number(0.0),
            "Absolute mean signed error over mean absolute error, beyond chance; 0 to 1",
        ),
        key("max_quantization_err", Number(0.0), "Largest absolute error that quantising the inputs causes by itself"),
        key(
            "max_total_err",
            Number(0.0),
            "Largest absolute error against the reference on the values before quantising",
        ),
        key("naive", Text, "A baseline in the kernel's own precision whose errors limit those of the kernel"),
        key("max_naive_ratio", Number(1.0), "Largest ratio of the kernel's errors to those of `naive`; 2 by default"),
        key(
            "patterns",
            List(&Choice(
                &[
                    "large",
                    "hot-row",
                    "hot-tile",
                    "equal",
                    "denormal",
                    "sign-flips",
                    "negative",
                    "positive",
                    "opposite-signs",
                    "zeros",
                    "ascending",
                    "outlier-first",
                    "outlier-last",
                ],
                &[],
            )),
            "Input patterns beside random inputs, at the cheapest shape; by default all, [] for none",
        ),
        key(
            "sizes",
            Map("dimension", &Kind::ChoiceOrList(&["any"], &Integer(1))),
            "More sizes of a dimension to check, with the other dimensions of the smallest shape: a list, or \"any\"",
        ),
        key("seeds", Integer(1), "Number of seeds; 5 by default"),
        key("shapes", TEXTS, "Names of shapes; all by default"),
        key("deterministic", Bool, "Whether two runs must agree bit for bit; true by default"),
    ],
);

static PROGRAM: Keys = whole(
    "the limits of a program",
    &[
        key("max_abs_err", Number(0.0), "Largest absolute error"),
        key("max_mean_err", Number(0.0), "Mean absolute error"),
        key("max_rms_err", Number(0.0), "Root mean square of the error over that of the reference"),
        key("max_bias", Number(0.0), "Absolute mean signed error over the root mean square of the reference"),
        key("max_bad_fraction", Number(0.0), "Share of elements whose error may exceed max_abs_err; 0 by default"),
    ],
);

static PERFORMANCE: Keys = whole(
    "a performance limit",
    &[
        key("shape", Text, "Shape of the limit; by default the shape of the search"),
        key("max_p50_us", Number(0.0), "Largest median time in microseconds"),
        key("min_speedup", Number(0.0), "Smallest ratio of the baseline's time to the kernel's"),
        key("over", Text, "The baseline of min_speedup"),
    ],
);

static TIMING: Keys = keys(
    "timing",
    &[
        key("warmup", Integer(0), "Number of untimed launches before the first sample; 20 by default"),
        key("iterations", Integer(1), "Smallest number of samples; 100 by default"),
        key(
            "precision",
            Number(0.0),
            "Width of the confidence interval of p50, as a share of p50, at which sampling ends; 0.005 by default",
        ),
        key("max_seconds", Number(0.0), "Longest time of sampling, in seconds, for each kernel; 2 by default"),
        key("cache", Choice(&["cold", "hot"], &[]), "State of the cache before each sample; \"cold\" by default"),
        key(
            "launch",
            Choice(&["graph", "stream", "host"], &[]),
            "Meaning of a sample on a GPU: \"graph\", the time of the device alone, by default; \"stream\", one launch on an idle stream between \
             two events; \"host\", the launch and the wait for its end by the host's clock",
        ),
        key("timeout_seconds", Integer(1), "Deadline of one launch or sample in seconds; 30 by default"),
    ],
);

static SEARCH: Keys = keys(
    "search",
    &[
        key("strategy", STRATEGY, "The strategy; \"auto\" by default"),
        key("elite", Integer(1), "Number of best variants in elite.json; 3 by default"),
        key("seed", Integer(0), "Seed of the strategy; 0 by default"),
        key(
            "budget",
            Within(&BUDGET),
            "Largest number of evaluations or seconds; by default a strategy without an end of its own stops after 200 evaluations",
        ),
        key("stop", Within(&STOP), "Condition on the best variant that ends the search"),
        key("shape", Text, "The shape at which the objective is measured; by default the first"),
        key(
            "objective",
            OneOrMore(&ChoiceOr(OBJECTIVES, &OBJECTIVE)),
            "The minimised quantity: \"p50\" by default, a mean of p50 over shapes, \"energy\", or a resource; \"throughput\" (`work` over p50) \
             is maximised; { command = [PROGRAM, …] } is a number that your program prints; two objectives give a Pareto front",
        ),
        key(
            "proposer",
            TEXTS,
            "A program, with its arguments, that proposes new sources as variants; half of the budget is reserved for them",
        ),
    ],
);

const OBJECTIVES: &[&str] =
    &["p50", "throughput", "energy", "registers", "shared_bytes", "spill_bytes", "stack_bytes", "code_bytes"];

static OBJECTIVE: Keys = whole(
    "an objective",
    &[
        key(
            "mean",
            Map("shape", &Number(0.0)),
            "The geometric mean of p50 over shapes, with these weights: { small = 1, large = 2 }",
        ),
        key(
            "command",
            TEXTS,
            "Your program, with its arguments, which launches the exported kernels and prints one number as its last line. It runs in the \
             package's folder, in turn with the default variant and with the measured variant",
        ),
        key("better", Choice(&["lower", "higher"], &[]), "Which numbers of command are better; \"lower\" by default"),
        key(
            "lang",
            Choice(&["rust", "c", "python"], &[]),
            "The language of the export for command; \"rust\" by default",
        ),
        key(
            "out",
            Text,
            "The folder of the export for command, in the package's; by default that of `cargo kbench export`",
        ),
    ],
);

static STOP: Keys = keys(
    "stop",
    &[key(
        "roofline",
        Number(0.0),
        "Share of the nearest measured ceiling, such as 0.95, that the best variant reaches by `work` and p50; at most 1",
    )],
);

static BUDGET: Keys = keys(
    "budget",
    &[
        key("evaluations", Integer(1), "Largest number of evaluated variants"),
        key("seconds", Integer(1), "Longest time of the search in seconds"),
    ],
);
