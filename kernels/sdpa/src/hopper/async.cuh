// What orders threads and asynchronous copies on Hopper: mbarriers, TMA, named barriers, registers handed over between warpgroups.

#pragma once

#include <cstdint>

namespace hopper {

// A CUtensorMap, as a kernel's parameter.
struct alignas(64) TensorMap {
    uint64_t opaque[16];
};

__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Counts arrivals and bytes of TMA copies. A thread's arrival releases what it read and wrote before.
struct Barrier {
    uint32_t address;

    __device__ __forceinline__ void init(int arrivals) const {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
    }
    __device__ __forceinline__ void arrive() const {
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
    }
    // An arrival that also announces bytes that copies will bring.
    __device__ __forceinline__ void arrive_and_expect(int bytes) const {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes) : "memory");
    }
    // Until the phase of this parity is complete. A fresh barrier counts as having completed a phase of parity 1.
    __device__ __forceinline__ void wait(uint32_t parity) const {
        asm volatile(
            "{\n"
            ".reg .pred done;\n"
            "again:\n"
            "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
            "@!done bra again;\n"
            "}\n" ::"r"(address),
            "r"(parity)
            : "memory");
    }
};

// A place in a ring of kStages, and the parity of the phase in which its barriers are.
template <int kStages>
struct Ring {
    int stage = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ void advance() {
        if (++stage == kStages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// Copies the map's box at (x, y, z) and reports its bytes to the barrier. Elements outside the tensor become zeros.
__device__ __forceinline__ void tma_load(uint32_t dst, const TensorMap *map, int x, int y, int z, Barrier barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(dst),
        "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier.address)
        : "memory");
}

// 16 bytes from global to shared memory.
__device__ __forceinline__ void copy_16(uint32_t dst, const void *src) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst), "l"(src) : "memory");
}
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kPending of the committed groups are unfinished.
template <int kPending>
__device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four bytes that nothing writes while the kernel runs. The compiler does not move the load down to where they are used.
__device__ __forceinline__ uint32_t load_word(const uint8_t *src) {
    uint32_t x = __ldg(reinterpret_cast<const uint32_t *>(src));
    asm volatile("" : "+r"(x)::"memory");
    return x;
}
__device__ __forceinline__ float load_float(const float *src) {
    float x = __ldg(src);
    asm volatile("" : "+f"(x)::"memory");
    return x;
}

// Brings a sector of 32 bytes to the L2 cache, or the whole line.
constexpr int kSector = 32;
__device__ __forceinline__ void prefetch(const void *src) { asm volatile("prefetch.global.L2 [%0];" ::"l"(src) : "memory"); }

// Makes this thread's ordinary accesses to shared memory visible to TMA and wgmma.
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Makes initialised barriers visible to TMA.
__device__ __forceinline__ void fence_barrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
    asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
    asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Whether the predicate holds for any of the barrier's threads.
__device__ __forceinline__ bool named_barrier_any(int id, int threads, bool predicate) {
    int any;
    asm volatile(
        "{\n"
        ".reg .pred mine, all;\n"
        "setp.ne.s32 mine, %3, 0;\n"
        "barrier.red.or.pred all, %1, %2, mine;\n"
        "selp.s32 %0, 1, 0, all;\n"
        "}\n"
        : "=r"(any)
        : "r"(id), "r"(threads), "r"(static_cast<int>(predicate))
        : "memory");
    return any != 0;
}

template <int kRegisters>
__device__ __forceinline__ void release_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void acquire_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ __forceinline__ void store_shared(uint32_t address, float4 x) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w) : "memory");
}
__device__ __forceinline__ void store_shared(uint32_t address, uint4 x) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}
__device__ __forceinline__ float4 load_shared4(uint32_t address) {
    float4 x;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "r"(address) : "memory");
    return x;
}
__device__ __forceinline__ float2 load_shared2(uint32_t address) {
    float2 x;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(address) : "memory");
    return x;
}
__device__ __forceinline__ void store_shared(uint32_t address, float2 x) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(x.x), "f"(x.y) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements; thread t gives the address of row t % 8 of matrix t / 8, and has of each matrix
// row t / 4, columns 2 (t % 4) and 2 (t % 4) + 1; transposed: rows 2 (t % 4) and 2 (t % 4) + 1 of column t / 4.
__device__ __forceinline__ void load_matrices(uint32_t (&m)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&m)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void store_matrices(uint32_t address, const uint32_t (&m)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(m[0]), "r"(m[1]),
                 "r"(m[2]), "r"(m[3])
                 : "memory");
}

}  // namespace hopper
