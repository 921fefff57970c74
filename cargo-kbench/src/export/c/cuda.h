#ifndef KBENCH_COMMON_CUDA
#define KBENCH_COMMON_CUDA

/* The devices that run a piece of code: PTX on the architecture and all later ones; machine code on the architecture and later ones of its generation, or on
   the very architecture. */
typedef enum { KBENCH_PTX, KBENCH_GENERATION, KBENCH_EXACT } kbench_kind;

/* The code of a variant for one architecture. */
typedef struct {
    int variant;
    int major, minor;
    kbench_kind kind;
    const void *image;
    /* The function of each launch; NULL where the variant does not make the launch. */
    const char *const *symbols;
} kbench_code;

/* One launch: the function's name, NULL where the variant does not make it, and its geometry. */
typedef struct {
    const char *entry;
    unsigned grid[3];
    unsigned block[3];
    /* Blocks a cluster; 0 without clusters. */
    unsigned cluster[3];
    unsigned dynamic_shared;
    int cooperative;
} kbench_launch;

/* The device of the current context. */
static inline int kbench_current_device(kbench_device *device, int *major, int *minor, int *most_shared)
{
    CUdevice handle;
    int sm_count = 0;
    int status = (int)cuCtxGetDevice(&handle);
    if (status == 0) status = (int)cuDeviceGetName(device->name, (int)sizeof device->name, handle);
    if (status == 0) status = (int)cuDeviceGetAttribute(major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle);
    if (status == 0) status = (int)cuDeviceGetAttribute(minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle);
    if (status == 0) status = (int)cuDeviceGetAttribute(&sm_count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, handle);
    if (status == 0) status = (int)cuDeviceGetAttribute(most_shared, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, handle);
    if (status != 0) return status;
    device->sm_count = sm_count;
    snprintf(device->arch, sizeof device->arch, "%d.%d", *major, *minor);
    return 0;
}

/* Loads each variant's functions, `stages` of them, from the code that suits the device: machine code before PTX, and the latest
   architecture before earlier ones. */
static inline int kbench_load(const kbench_code *codes, int count, int variants, int stages, kbench_device *device,
                              CUmodule *modules, CUfunction *functions)
{
    int variant, stage, at, status, major = 0, minor = 0, most_shared = 0;
    for (at = 0; at < variants; at++) modules[at] = NULL;
    for (at = 0; at < variants * stages; at++) functions[at] = NULL;
    status = kbench_current_device(device, &major, &minor, &most_shared);
    for (variant = 0; status == 0 && variant < variants; variant++) {
        const kbench_code *best = NULL;
        int rank = -1;
        for (at = 0; at < count; at++) {
            const kbench_code *code = &codes[at];
            const int is_earlier = code->major < major || (code->major == major && code->minor <= minor);
            const int is_exact = code->major == major && code->minor == minor;
            const int runs = code->kind == KBENCH_PTX          ? is_earlier
                             : code->kind == KBENCH_GENERATION ? is_earlier && code->major == major
                                                               : is_exact;
            const int own = (code->kind != KBENCH_PTX) * 100000 + (code->major * 100 + code->minor) * 4 + (int)code->kind;
            if (code->variant == variant && runs && own > rank) {
                best = code;
                rank = own;
            }
        }
        if (best == NULL) status = KBENCH_NO_CODE;
        if (status == 0) status = (int)cuModuleLoadData(&modules[variant], best->image);
        for (stage = 0; status == 0 && stage < stages; stage++) {
            CUfunction *function = &functions[variant * stages + stage];
            int own = 0;
            if (best->symbols[stage] == NULL) continue;
            status = (int)cuModuleGetFunction(function, modules[variant], best->symbols[stage]);
            /* All that the device allows beside the function's own, so that no launch has to ask for it. */
            if (status == 0) status = (int)cuFuncGetAttribute(&own, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, *function);
            if (status == 0) {
                status = (int)cuFuncSetAttribute(*function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most_shared - own);
            }
        }
    }
    if (status != 0) {
        for (at = 0; at < variants; at++) {
            if (modules[at] != NULL) (void)cuModuleUnload(modules[at]);
            modules[at] = NULL;
        }
    }
    return status;
}

static inline int kbench_run(CUfunction function, const kbench_launch *launch, CUstream stream, void **arguments)
{
    CUlaunchConfig config;
    CUlaunchAttribute attributes[2];
    unsigned count = 0;
    memset(&config, 0, sizeof config);
    memset(attributes, 0, sizeof attributes);
    if (launch->cluster[0] != 0) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attributes[count].value.clusterDim.x = launch->cluster[0];
        attributes[count].value.clusterDim.y = launch->cluster[1];
        attributes[count].value.clusterDim.z = launch->cluster[2];
        count++;
        /* More than 8 blocks a cluster have to be asked for. */
        if ((uint64_t)launch->cluster[0] * launch->cluster[1] * launch->cluster[2] > 8) {
            const CUresult allowed = cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1);
            if (allowed != CUDA_SUCCESS) return (int)allowed;
        }
    }
    if (launch->cooperative) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
        attributes[count].value.cooperative = 1;
        count++;
    }
    config.gridDimX = launch->grid[0];
    config.gridDimY = launch->grid[1];
    config.gridDimZ = launch->grid[2];
    config.blockDimX = launch->block[0];
    config.blockDimY = launch->block[1];
    config.blockDimZ = launch->block[2];
    config.sharedMemBytes = launch->dynamic_shared;
    config.hStream = stream;
    config.attrs = attributes;
    config.numAttrs = count;
    return (int)cuLaunchKernelEx(&config, function, arguments, NULL);
}

/* Copies device memory to a symbol of a module, on the stream. */
static inline int kbench_copy_to_symbol(CUmodule module, const char *symbol, CUdeviceptr from, size_t bytes, CUstream stream)
{
    CUdeviceptr place = 0;
    size_t size = 0;
    const int status = (int)cuModuleGetGlobal(&place, &size, module, symbol);
    if (status != 0) return status;
    return size < bytes ? KBENCH_SIZES : (int)cuMemcpyDtoDAsync(place, from, bytes, stream);
}

/* A row-major map of a tensor; sizes and box with the innermost dimension first. */
static inline int kbench_tensor_map(CUtensorMap *map, CUtensorMapDataType type, uint64_t size, CUdeviceptr address, unsigned rank,
                                    const cuuint64_t *dims, const cuuint32_t *sides, CUtensorMapSwizzle swizzle)
{
    cuuint64_t strides[5] = {0, 0, 0, 0, 0};
    const cuuint32_t ones[5] = {1, 1, 1, 1, 1};
    uint64_t bytes = size;
    unsigned at;
    for (at = 0; at < rank; at++) {
        bytes *= dims[at];
        strides[at] = bytes;
    }
    return (int)cuTensorMapEncodeTiled(map, type, rank, (void *)(uintptr_t)address, dims, strides, sides, ones,
                                       CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

#endif /* KBENCH_COMMON_CUDA */

