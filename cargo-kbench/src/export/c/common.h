#ifndef KBENCH_COMMON
#define KBENCH_COMMON

/* Results of functions: 0, one of these, or a CUresult, which is positive. */
enum {
    /* The sizes have no launch: a number overflows, or is not whole where it has to be. */
    KBENCH_SIZES = -1,
    /* No variant was compiled for these sizes. */
    KBENCH_NO_VARIANT = -2,
    /* An environment variable names no variant; they are called v0, v1 and so on, and default. */
    KBENCH_UNKNOWN_VARIANT = -3,
    /* Memory for scratch tensors ran out. */
    KBENCH_MEMORY = -4,
    /* There is no code for the device. */
    KBENCH_NO_CODE = -5
};

/* The rule that chose a variant. */
typedef enum {
    /* An environment variable names it. */
    KBENCH_VARIABLE,
    /* It won on this device at these sizes. */
    KBENCH_SAME_SIZES,
    /* It won on this device at the nearest sizes. */
    KBENCH_NEAREST_SIZES,
    /* It won on another device of this architecture. */
    KBENCH_OTHER_DEVICE,
    /* It is the default of the table. */
    KBENCH_DEFAULT
} kbench_rule;

/* A variant, and why it was chosen. */
typedef struct {
    int variant;
    kbench_rule rule;
} kbench_choice;

/* Properties of the device, and the variant that an environment variable names: -1 if it is not set, -2 if it is `default`. */
typedef struct {
    char name[256];
    /* "9.0"; empty for a CPU. */
    char arch[16];
    int64_t sm_count;
    int named;
} kbench_device;

/* A winner, and where it won. */
typedef struct {
    const char *device;
    const char *arch;
    int variant;
} kbench_tuned;

/* A status in words; those of the driver are told by cuGetErrorString. */
static inline const char *kbench_message(int status)
{
    switch (status) {
    case 0: return "no error";
    case KBENCH_SIZES: return "the kernel has no launch for these sizes";
    case KBENCH_NO_VARIANT: return "no variant was compiled for these sizes; export the kernel with a shape like them";
    case KBENCH_UNKNOWN_VARIANT: return "an environment variable names no variant; they are called v0, v1 and so on, and default";
    case KBENCH_MEMORY: return "no memory for scratch tensors";
    case KBENCH_NO_CODE: return "no code for this device";
    default: return "the CUDA driver failed";
    }
}

/* A rule in words. */
static inline const char *kbench_rule_text(kbench_rule rule)
{
    switch (rule) {
    case KBENCH_VARIABLE: return "an environment variable names it";
    case KBENCH_SAME_SIZES: return "it won on this device at these sizes";
    case KBENCH_NEAREST_SIZES: return "it won on this device at the nearest sizes";
    case KBENCH_OTHER_DEVICE: return "it won on another device of this architecture";
    default: return "it is the default";
    }
}

/* The variant that a variable names, v0 and so on; -1 where it is not set, -2 where it says default. */
static inline int kbench_named(const char *variable, int variants, int *named)
{
    const char *value = getenv(variable);
    int at;
    char name[16];
    *named = -1;
    if (value == NULL) return 0;
    if (strcmp(value, "default") == 0) {
        *named = -2;
        return 0;
    }
    for (at = 0; at < variants; at++) {
        snprintf(name, sizeof name, "v%d", at);
        if (strcmp(name, value) == 0) {
            *named = at;
            return 0;
        }
    }
    return KBENCH_UNKNOWN_VARIANT;
}

/* Distance of two sets of sizes: the sum of the logarithms of their ratios, without sign. */
static inline double kbench_distance(const int64_t *a, const int64_t *b, int dims)
{
    double sum = 0;
    int at;
    for (at = 0; at < dims; at++) {
        sum += fabs(log((double)(a[at] > 1 ? a[at] : 1) / (double)(b[at] > 1 ? b[at] : 1)));
    }
    return sum;
}

/* Chooses among the variants that are `usable` for `sizes`; the sizes of the winners lie one after the other in `tuned_sizes`. */
static inline int kbench_pick(const kbench_device *device, const kbench_tuned *tuned, const int64_t *tuned_sizes, int winners,
                              const int64_t *sizes, int dims, const int *usable, const int *defaults, int default_count,
                              kbench_choice *choice)
{
    int by_arch, at, best;
    if (device->named >= 0) {
        choice->variant = device->named;
        choice->rule = KBENCH_VARIABLE;
        return usable[device->named] ? 0 : KBENCH_NO_VARIANT;
    }
    for (by_arch = 0; by_arch < 2 && device->named != -2; by_arch++) {
        double least = 0;
        best = -1;
        for (at = 0; at < winners; at++) {
            const int is_here = by_arch ? strcmp(tuned[at].arch, device->arch) == 0 : strcmp(tuned[at].device, device->name) == 0;
            const double distance = kbench_distance(tuned_sizes + at * dims, sizes, dims);
            if (is_here && usable[tuned[at].variant] && (best < 0 || distance < least)) {
                best = at;
                least = distance;
            }
        }
        if (best >= 0) {
            choice->variant = tuned[best].variant;
            choice->rule = KBENCH_OTHER_DEVICE;
            if (!by_arch) {
                const int is_same = memcmp(tuned_sizes + best * dims, sizes, (size_t)dims * sizeof *sizes) == 0;
                choice->rule = is_same ? KBENCH_SAME_SIZES : KBENCH_NEAREST_SIZES;
            }
            return 0;
        }
    }
    for (at = 0; at < default_count; at++) {
        if (usable[defaults[at]]) {
            choice->variant = defaults[at];
            choice->rule = KBENCH_DEFAULT;
            return 0;
        }
    }
    return KBENCH_NO_VARIANT;
}

/* The table's arithmetic. `bad` is set where an expression has no value, and 0 stands for it. */

static inline int64_t kbench_fail(int *bad)
{
    *bad = 1;
    return 0;
}

static inline int64_t kbench_add(int64_t a, int64_t b, int *bad)
{
    if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) return kbench_fail(bad);
    return a + b;
}

static inline int64_t kbench_sub(int64_t a, int64_t b, int *bad)
{
    if (b > 0 ? a < INT64_MIN + b : a > INT64_MAX + b) return kbench_fail(bad);
    return a - b;
}

static inline int64_t kbench_mul(int64_t a, int64_t b, int *bad)
{
    if (a > 0 && (b > 0 ? a > INT64_MAX / b : b < INT64_MIN / a)) return kbench_fail(bad);
    if (a < 0 && (b > 0 ? a < INT64_MIN / b : b < INT64_MAX / a)) return kbench_fail(bad);
    return a * b;
}

/* An integer that has to lie between two numbers. */
static inline int64_t kbench_within(int64_t value, int64_t low, int64_t high, int *bad)
{
    return value < low || value > high ? kbench_fail(bad) : value;
}

static inline unsigned kbench_unsigned(int64_t value, int *bad)
{
    return (unsigned)kbench_within(value, 0, UINT32_MAX, bad);
}

static inline size_t kbench_count(int64_t value, int *bad)
{
    return (size_t)kbench_within(value, 0, PTRDIFF_MAX, bad);
}

/* A number without a fraction as an integer. */
static inline int64_t kbench_whole(double value, int *bad)
{
    return floor(value) < value || !(fabs(value) < 9e15) ? kbench_fail(bad) : (int64_t)value;
}

static inline int kbench_same(double a, double b)
{
    return a <= b && a >= b;
}

static inline double kbench_square_root(double value, int *bad)
{
    return value >= 0 ? sqrt(value) : (double)kbench_fail(bad);
}

static inline double kbench_log2(double value, int *bad)
{
    return value > 0 ? log2(value) : (double)kbench_fail(bad);
}

static inline double kbench_magnitude(double value)
{
    return fabs(value);
}

static inline int64_t kbench_absolute(int64_t value, int *bad)
{
    return value < 0 ? kbench_sub(0, value, bad) : value;
}

static inline int kbench_is_power_of_two(int64_t value)
{
    return value > 0 && (value & (value - 1)) == 0;
}

static inline int64_t kbench_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t kbench_greatest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline double kbench_least_real(double a, double b)
{
    return a < b ? a : b;
}

static inline double kbench_greatest_real(double a, double b)
{
    return a > b ? a : b;
}

static inline int64_t kbench_floor_div(int64_t a, int64_t b, int *bad)
{
    if (b == 0 || (a == INT64_MIN && b == -1)) return kbench_fail(bad);
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static inline int64_t kbench_ceil_div(int64_t a, int64_t b, int *bad)
{
    if (b == 0 || (a == INT64_MIN && b == -1)) return kbench_fail(bad);
    return a / b + (a % b != 0 && (a < 0) == (b < 0));
}

static inline double kbench_floor_div_real(double a, double b, int *bad)
{
    return kbench_same(b, 0) ? (double)kbench_fail(bad) : floor(a / b);
}

static inline int64_t kbench_ceil_div_real(double a, double b, int *bad)
{
    return kbench_same(b, 0) ? kbench_fail(bad) : kbench_whole(ceil(a / b), bad);
}

static inline int64_t kbench_remainder(int64_t a, int64_t b, int *bad)
{
    int64_t rest;
    if (b == 0) return kbench_fail(bad);
    /* -1 divides everything, but the smallest integer over it overflows. */
    rest = b == -1 ? 0 : a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static inline double kbench_remainder_real(double a, double b, int *bad)
{
    double rest;
    if (kbench_same(b, 0)) return (double)kbench_fail(bad);
    rest = fmod(a, b);
    return !kbench_same(rest, 0) && (rest < 0) != (b < 0) ? rest + b : rest;
}

static inline double kbench_divide(double a, double b, int *bad)
{
    return kbench_same(b, 0) ? (double)kbench_fail(bad) : a / b;
}

/* The power to an exponent of 0 or more, by squares. */
static inline int64_t kbench_power(int64_t base, int64_t exponent, int *bad)
{
    int64_t power = 1;
    if (exponent < 0 || exponent > UINT32_MAX) return kbench_fail(bad);
    while (exponent > 0) {
        if (exponent % 2 == 1) power = kbench_mul(power, base, bad);
        exponent /= 2;
        if (exponent > 0) base = kbench_mul(base, base, bad);
    }
    return *bad ? 0 : power;
}

static inline double kbench_power_real(double base, double exponent, int *bad)
{
    const double power = pow(base, exponent);
    return power - power < 0 || power - power > 0 || !kbench_same(power - power, 0) ? (double)kbench_fail(bad) : power;
}

static inline int64_t kbench_shift_left(int64_t value, int64_t bits, int *bad)
{
    if (bits < 0) return kbench_fail(bad);
    if (value == 0) return 0;
    if (bits == 63 && value == -1) return INT64_MIN;
    return bits > 62 ? kbench_fail(bad) : kbench_mul(value, (int64_t)1 << bits, bad);
}

static inline int64_t kbench_shift_right(int64_t value, int64_t bits, int *bad)
{
    if (bits < 0) return kbench_fail(bad);
    return value >> (bits < 63 ? bits : 63);
}

/* The bits of a number in a narrower format, rounded to the nearest, ties to even: its bits after the point, the bias of its exponent, its
   largest number, and what stands for larger ones. */
static inline unsigned kbench_narrow(double value, int mantissa, int bias, unsigned largest, unsigned above)
{
    unsigned sign = 1, bits = above;
    int exponent;
    while (sign <= largest) sign *= 2;
    if (!kbench_same(value, value)) return sign - 1;
    (void)frexp(fabs(value), &exponent);
    exponent -= 1;
    /* Below the smallest normal number the steps stay as wide. */
    if (exponent < 1 - bias) exponent = 1 - bias;
    if (exponent <= bias + 1) {
        bits = (unsigned)(exponent + bias - 1) << mantissa;
        bits += (unsigned)nearbyint(ldexp(fabs(value), mantissa - exponent));
        if (bits > largest) bits = above;
    }
    return signbit(value) ? sign | bits : bits;
}

#endif /* KBENCH_COMMON */

