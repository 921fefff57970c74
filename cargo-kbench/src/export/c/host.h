#ifndef KBENCH_COMMON_HOST
#define KBENCH_COMMON_HOST

#if defined(__x86_64__) || defined(_M_X64)
#define KBENCH_ARCH "x86_64"
#elif defined(__aarch64__) || defined(_M_ARM64)
#define KBENCH_ARCH "aarch64"
#elif defined(__riscv) && __riscv_xlen == 64
#define KBENCH_ARCH "riscv64"
#elif defined(__powerpc64__)
#define KBENCH_ARCH "powerpc64"
#else
#define KBENCH_ARCH "unknown"
#endif

/* This processor, by its name in elite.json. */
static inline void kbench_processor(kbench_device *device)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512];
    memset(device, 0, sizeof *device);
    snprintf(device->name, sizeof device->name, "%s", KBENCH_ARCH);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *value = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (value != NULL) {
            size_t length;
            value += 1 + strspn(value + 1, " \t");
            length = strcspn(value, "\n");
            while (length > 0 && strchr(" \t", value[length - 1]) != NULL) length--;
            if (length >= sizeof device->name) length = sizeof device->name - 1;
            memcpy(device->name, value, length);
            device->name[length] = '\0';
            break;
        }
    }
    if (file != NULL) fclose(file);
}

#endif /* KBENCH_COMMON_HOST */

