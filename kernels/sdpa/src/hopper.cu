// FP8 (E4M3) scaled dot-product attention for Hopper, forward, non-causal:
//
//     O = softmax(softmax_scale * Q K^T) V        Q, K, V: [B, H, S, HEAD_DIM] E4M3, one fp32 scale per head
//                                                 O:       [B, H, S, HEAD_DIM] fp16
//
// Both products are wgmma's, with 64 query rows a warpgroup. Q and K are multiplied in FP8. The parts, in hopper/:
//
//   stream.cuh   keys and values stream through shared memory by TMA: for sequences that keep a GPU busy
//   split.cuh    keys are split over the warpgroups of a CTA: for short sequences
//   softmax.cuh  online softmax, and what makes scores probabilities
//   tiles.cuh    layouts in shared memory and registers, and the two products
//   problem.cuh  arguments, work items, the output
//   wgmma.cuh, async.cuh   the instructions
//
// Toggles, all from the command line as -DNAME=VALUE; HEAD_DIM too:
//   P_E4M3        1: probabilities and values are multiplied in E4M3, 0: in fp16
//   EXP_LINEAR    1: a probability's E4M3 code is a linear function of its score (softmax.cuh), 0: ex2.approx
//   SPLIT_KEYS    1: split.cuh, 0: stream.cuh
//   KEYS_FILL     with SPLIT_KEYS: 1: the keys fill all turns of all warpgroups, 0: they may end within one
//   WARPGROUPS    that compute: of rows of their own, or of keys of their own with SPLIT_KEYS
//   TILE_N        keys a tile
//   STAGES        tiles that keys and values are ahead, without SPLIT_KEYS
//   PERSISTENT    1: a CTA takes further work items, without SPLIT_KEYS
//   PING_PONG     1: warpgroups take turns at starting products
//   SCORE_STAGES  2: the next tile's scores are computed while this one's become probabilities
//   HEADROOM      octaves that a maximum may be too low before sums are scaled again

#if !defined(P_E4M3) || !defined(EXP_LINEAR) || !defined(SPLIT_KEYS) || !defined(WARPGROUPS) || !defined(TILE_N) || !defined(STAGES) || \
    !defined(PERSISTENT) || !defined(PING_PONG) || !defined(SCORE_STAGES) || !defined(HEADROOM) || !defined(HEAD_DIM) || \
    (SPLIT_KEYS && !defined(KEYS_FILL))
#error "every toggle and HEAD_DIM must be given on the command line"
#endif

#if SPLIT_KEYS
#include "hopper/split.cuh"
namespace structure = split;
#else
#include "hopper/stream.cuh"
namespace structure = stream;
#endif

// The maps are of [B * H][S][HEAD_DIM], with boxes of a tile's rows and 64 dimensions, swizzled over 64 bytes.
extern "C" __global__ void __launch_bounds__(structure::kThreads, 1)
    sdpa_hopper(const __grid_constant__ hopper::TensorMap q_map, const __grid_constant__ hopper::TensorMap k_map,
                const __grid_constant__ hopper::TensorMap v_map, const uint8_t *__restrict__ q, const uint8_t *__restrict__ k,
                const uint8_t *__restrict__ v, const float *__restrict__ q_scale, const float *__restrict__ k_scale,
                const float *__restrict__ v_scale, __half *__restrict__ o, int seq_len, float softmax_scale, int heads, int batch_heads) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const Problem p = {&q_map, &k_map, &v_map, q, k, v, q_scale, k_scale, v_scale, o, seq_len, heads, batch_heads, softmax_scale};
    structure::run(p, hopper::shared_address(shared));
}
