// Keys and values stream through rings in shared memory: for sequences that keep a GPU busy.
//
// One warpgroup produces: threads of two warps start TMA copies, the other two warps make E4M3 values K-major (or fp16) for wgmma. WARPGROUPS
// warpgroups of 64 query rows each compute. Tile t's scores and tile t - 1's outputs are started together; while the tensor cores work
// on the latter, and on other warpgroups' tiles, the softmax of tile t runs.
//
// Work items are the query tiles of WARPGROUPS * 64 rows of all heads. With PERSISTENT, a CTA takes every gridDim.x-th, and its producers run on into
// the next item while its consumers finish one. A single warpgroup with a single item loads its queries straight from memory: nothing hides a copy.

#pragma once

#define COPY_QUERIES (PERSISTENT || WARPGROUPS > 1)

#include "problem.cuh"
#include "softmax.cuh"

namespace stream {

using hopper::Barrier;
using tiles::kKeyTile;
using tiles::kRows;
using tiles::kValueTile;
using tiles::kWarpgroup;

constexpr int kThreads = (1 + WARPGROUPS) * kWarpgroup;
constexpr int kItemRows = WARPGROUPS * kRows;
constexpr int kRawStages = 3;
constexpr int kPreparers = 2;  // warps
// What a launch allocates is all there is to hand over: 168 registers a thread with three warpgroups, 128 with four.
constexpr int kProducerRegisters = WARPGROUPS == 2 ? 40 : 56;
constexpr int kConsumerRegisters = WARPGROUPS == 3 ? 152 : WARPGROUPS == 2 ? 232 : 240;

// Shared memory; the table computes the same sum.
constexpr int kQueryTile = COPY_QUERIES * kItemRows * HEAD_DIM;
constexpr int kKeysAt = kQueryTile;
constexpr int kRawAt = kKeysAt + STAGES * kKeyTile;
constexpr int kValuesAt = kRawAt + kRawStages * kKeyTile;
constexpr int kTotalsAt = kValuesAt + STAGES * kValueTile;

struct Barriers {
    uint64_t queries[2];             // full, empty
    uint64_t keys[2][STAGES];
    uint64_t raw[2][kRawStages];
    uint64_t values[2][STAGES];
};

struct Rings {
    uint32_t shared;
    Barriers *barriers;

    __device__ Barrier queries(int empty) const { return {hopper::shared_address(&barriers->queries[empty])}; }
    __device__ Barrier keys(int empty, int stage) const { return {hopper::shared_address(&barriers->keys[empty][stage])}; }
    __device__ Barrier raw(int empty, int stage) const { return {hopper::shared_address(&barriers->raw[empty][stage])}; }
    __device__ Barrier values(int empty, int stage) const { return {hopper::shared_address(&barriers->values[empty][stage])}; }
    __device__ uint32_t key_tile(int stage) const { return shared + kKeysAt + stage * kKeyTile; }
    __device__ uint32_t raw_tile(int stage) const { return shared + kRawAt + stage * kKeyTile; }
    __device__ uint32_t value_tile(int stage) const { return shared + kValuesAt + stage * kValueTile; }

    // Until the copying threads have made the barriers.
    __device__ void wait_for_init() const { hopper::named_barrier_sync(1 + WARPGROUPS, kThreads); }
    // The barriers of queries and keys, and those of values: each by the thread that copies these.
    __device__ void init_keys() const {
        queries(0).init(1);
        queries(1).init(WARPGROUPS * 4);
        for (int stage = 0; stage < STAGES; ++stage) {
            keys(0, stage).init(1);
            keys(1, stage).init(WARPGROUPS * 4);
        }
        hopper::fence_barrier_init();
    }
    __device__ void init_values() const {
        for (int stage = 0; stage < kRawStages; ++stage) {
            raw(0, stage).init(1);
            raw(1, stage).init(kPreparers);
        }
        for (int stage = 0; stage < STAGES; ++stage) {
            values(0, stage).init(kPreparers);
            values(1, stage).init(WARPGROUPS * 4);
        }
        hopper::fence_barrier_init();
    }
};

// The last tile comes first: only it can have fewer than TILE_N keys.
__device__ __forceinline__ int first_key(int tile, int tiles) { return (tile == 0 ? tiles - 1 : tile - 1) * TILE_N; }

__device__ __forceinline__ void load_tile(uint32_t dst, const hopper::TensorMap *map, int rows, int row, int batch_head, Barrier full) {
#pragma unroll
    for (int block = 0; block < tiles::kDimBlocks; ++block) {
        hopper::tma_load(dst + block * rows * tiles::kBlockBytes, map, block * tiles::kBlockBytes, row, batch_head, full);
    }
}

// One thread copies queries and keys, another one values: a copy takes its thread long to start.
__device__ __forceinline__ void copy_keys(const Problem &p, const Rings &rings) {
    hopper::Ring<STAGES> keys;
#if COPY_QUERIES
    uint32_t queries_parity = 1;
#endif
    const int key_tiles = p.key_tiles();
#pragma unroll 1
    for (Items<kItemRows> items(p); items.more(); items.advance()) {
        const Item item = items.item();
#if COPY_QUERIES
        rings.queries(1).wait(queries_parity);
        queries_parity ^= 1;
        rings.queries(0).arrive_and_expect(kQueryTile);
        load_tile(rings.shared, p.q, kItemRows, item.first_row, item.batch_head, rings.queries(0));
#endif
#pragma unroll 1
        for (int tile = 0; tile < key_tiles; ++tile) {
            rings.keys(1, keys.stage).wait(keys.parity ^ 1);
            rings.keys(0, keys.stage).arrive_and_expect(kKeyTile);
            load_tile(rings.key_tile(keys.stage), p.k, TILE_N, first_key(tile, key_tiles), item.batch_head, rings.keys(0, keys.stage));
            keys.advance();
        }
    }
}
__device__ __forceinline__ void copy_values(const Problem &p, const Rings &rings) {
    hopper::Ring<kRawStages> raw;
    const int key_tiles = p.key_tiles();
#pragma unroll 1
    for (Items<kItemRows> items(p); items.more(); items.advance()) {
        const Item item = items.item();
#pragma unroll 1
        for (int tile = 0; tile < key_tiles; ++tile) {
            rings.raw(1, raw.stage).wait(raw.parity ^ 1);
            rings.raw(0, raw.stage).arrive_and_expect(kKeyTile);
            load_tile(rings.raw_tile(raw.stage), p.v, TILE_N, first_key(tile, key_tiles), item.batch_head, rings.raw(0, raw.stage));
            raw.advance();
        }
    }
}

// kPreparers warps.
__device__ __forceinline__ void prepare(const Problem &p, const Rings &rings, int warp) {
#if P_E4M3
    tiles::write_ones(rings.value_tile(0), STAGES, warp * 32 + threadIdx.x % 32, kPreparers * 32);
    hopper::fence_async();
#endif
    rings.wait_for_init();
    hopper::Ring<kRawStages> raw;
    hopper::Ring<STAGES> values;
    const tiles::Preparer preparer(rings.raw_tile(0), rings.value_tile(0), warp, kPreparers);
    int tiles = 0;
    for (Items<kItemRows> items(p); items.more(); items.advance()) {
        tiles += p.key_tiles();
    }
#pragma unroll 1
    for (; tiles > 0; --tiles) {
        rings.values(1, values.stage).wait(values.parity ^ 1);
        rings.raw(0, raw.stage).wait(raw.parity);
        preparer.run(raw.stage * kKeyTile, values.stage * kValueTile);
        hopper::fence_async();
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            rings.raw(1, raw.stage).arrive();
            rings.values(0, values.stage).arrive();
        }
        raw.advance();
        values.advance();
    }
}

// A warp's arrival.
__device__ __forceinline__ void release(Barrier barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        barrier.arrive();
    }
}

// With PING_PONG, warpgroups take turns at starting products, so that one's softmax runs under another's products.
__device__ __forceinline__ void take_turn(int group) {
#if PING_PONG && WARPGROUPS > 1
    hopper::named_barrier_sync(1 + group, 2 * kWarpgroup);
#endif
}
__device__ __forceinline__ void pass_turn(int group) {
#if PING_PONG && WARPGROUPS > 1
    hopper::named_barrier_arrive(1 + (group + 1) % WARPGROUPS, 2 * kWarpgroup);
#endif
}

// A warpgroup of 64 query rows.
struct Consumer {
    const Rings &rings;
    const tiles::Keys key_tiles;
    const tiles::Values value_tiles;
    const int group;
    hopper::Ring<STAGES> keys, released, values;  // tiles whose scores are started; that are used up; values
    tiles::Queries q;
    tiles::Outputs o;
    tiles::Probabilities probabilities;
    softmax::Rows rows;
    const softmax::Totals totals;

    __device__ __forceinline__ Consumer(const Rings &rings, int group)
        : rings(rings), key_tiles(rings.key_tile(0)), value_tiles(rings.value_tile(0)), group(group),
          totals(rings.shared + kTotalsAt + group * softmax::Totals::kBytes) {}

    __device__ __forceinline__ void start_scores(tiles::Scores &s) {
        rings.keys(0, keys.stage).wait(keys.parity);
        take_turn(group);
        wgmma::pin(s);
        wgmma::fence();
        tiles::start_scores(s, q, key_tiles.moved(keys.stage * kKeyTile));
        wgmma::commit();
        keys.advance();
    }
    __device__ __forceinline__ void start_outputs() {
        rings.values(0, values.stage).wait(values.parity);
        wgmma::pin(o);
        wgmma::fence();
        tiles::start_outputs(o, probabilities, value_tiles.moved(values.stage * kValueTile));
        wgmma::commit();
    }
    __device__ __forceinline__ void release_keys() {
        release(rings.keys(1, released.stage));
        released.advance();
    }
    __device__ __forceinline__ void outputs_done() {
        wgmma::pin(o);
        release(rings.values(1, values.stage));
        values.advance();
    }
    // Before the products of this tile.
    __device__ __forceinline__ void total(int tile) {
        if (P_E4M3 && tile % softmax::kTotalTiles == 0) {
            totals.add(o, rows, tile == softmax::kTotalTiles);
        }
    }
    __device__ __forceinline__ void first_max(tiles::Scores &s, int keys_left) {
        wgmma::pin(s);
        if (keys_left < TILE_N) {
            softmax::mask(s, keys_left);
        }
        softmax::tile_max(s, rows.max);
    }
    __device__ __forceinline__ void weigh(const tiles::Scores &s) {
        softmax::probabilities(probabilities, s, rows);
        wgmma::pin(probabilities);
    }

#if SCORE_STAGES == 2
#elif P_E4M3 && EXP_LINEAR
    // Turns scores into probabilities while the product of the tile before runs.
    __device__ __forceinline__ void weigh_next(tiles::Scores &s, int tile) {
        softmax::Codes codes;
        const bool exceeds = softmax::encode(codes, s, rows);
        wgmma::pin(codes);
        wgmma::wait<0>();
        outputs_done();
        if (hopper::named_barrier_any(8 + group, kWarpgroup, exceeds)) {
            // the scores' registers are gone
            wgmma::fence();
            tiles::start_scores(s, q, key_tiles.moved(released.stage * kKeyTile));
            wgmma::commit();
            wgmma::wait<0>();
            wgmma::pin(s);
            float max[2];
            softmax::tile_max(s, max);
            softmax::rescale(rows, o, max);
            softmax::encode(codes, s, rows);
        } else if (tile % softmax::kSumTiles == 0) {
            softmax::rescale(rows, o, rows.max);
        }
        total(tile);
        release_keys();
        softmax::pack(probabilities, codes);
        wgmma::pin(probabilities);
    }
#else
    __device__ __forceinline__ void weigh_next(tiles::Scores &s, int tile) {
        release_keys();
        float max[2];
        softmax::tile_max(s, max);
        wgmma::wait<0>();
        outputs_done();
        if (softmax::must_rescale(rows, max, tile)) {
            softmax::rescale(rows, o, max);
        }
        total(tile);
        weigh(s);
    }
#endif

#if SCORE_STAGES == 1
    // Outputs of the tile before are started behind the scores of this one.
    __device__ __forceinline__ void run(int tiles, int last_keys) {
        tiles::Scores s;
        start_scores(s);
        pass_turn(group);
        wgmma::wait<0>();
        first_max(s, last_keys);
        release_keys();
        weigh(s);
#pragma unroll 1
        for (int tile = 1; tile < tiles; ++tile) {
            start_scores(s);
            start_outputs();
            pass_turn(group);
            wgmma::wait<1>();
            wgmma::pin(s);
            weigh_next(s, tile);
        }
        start_outputs();
        wgmma::wait<0>();
        outputs_done();
    }
#else
    // Two sets of scores: the product of the next runs while this one becomes probabilities, that of outputs while the next maximum is found.
    __device__ __forceinline__ void step(tiles::Scores &s, tiles::Scores &next, int tile) {
        start_scores(next);
        weigh(s);
        start_outputs();
        pass_turn(group);
        wgmma::wait<1>();
        wgmma::pin(next);
        release_keys();
        float max[2];
        softmax::tile_max(next, max);
        wgmma::wait<0>();
        outputs_done();
        if (softmax::must_rescale(rows, max, tile)) {
            softmax::rescale(rows, o, max);
        }
        total(tile);
    }
    __device__ __forceinline__ void finish(tiles::Scores &s) {
        weigh(s);
        start_outputs();
        wgmma::wait<0>();
        outputs_done();
    }
    __device__ __forceinline__ void run(int tiles, int last_keys) {
        tiles::Scores a, b;
        start_scores(a);
        pass_turn(group);
        wgmma::wait<0>();
        first_max(a, last_keys);
        release_keys();
        int tile = 1;
#pragma unroll 1
        for (; tile + 1 < tiles; tile += 2) {
            step(a, b, tile);
            step(b, a, tile + 1);
        }
        if (tile < tiles) {
            step(a, b, tile);
            finish(b);
        } else {
            finish(a);
        }
    }
#endif
};

__device__ __forceinline__ void compute(const Problem &p, const Rings &rings, int group) {
    const int row = group * kRows + threadIdx.x / 32 % 4 * 16;  // the warp's first one in an item
    const int key_tiles = p.key_tiles();
    hopper::acquire_registers<kConsumerRegisters>();
    Consumer consumer(rings, group);
#if COPY_QUERIES
    uint32_t queries_parity = 0;
#else
    // On their way while barriers are made.
    const Item only = Items<kItemRows>(p).item();
    tiles::load_queries(consumer.q, p.queries + static_cast<size_t>(only.batch_head) * p.seq_len * HEAD_DIM, only.first_row + row, p.seq_len);
#endif
    rings.wait_for_init();
    if (group == WARPGROUPS - 1) {
        pass_turn(group);
    }
    for (Items<kItemRows> items(p); items.more(); items.advance()) {
        const Item item = items.item();
        const Scales scales = p.scales(item);
        consumer.rows = {{}, {}, scales.score};
        tiles::clear(consumer.o);
#if COPY_QUERIES
        rings.queries(0).wait(queries_parity);
        queries_parity ^= 1;
        tiles::load_queries(consumer.q, rings.shared, row, kItemRows);
        release(rings.queries(1));
#endif
        consumer.run(key_tiles, p.seq_len - (key_tiles - 1) * TILE_N);
        if (P_E4M3 && key_tiles > softmax::kTotalTiles) {
            consumer.totals.add_to(consumer.o, consumer.rows);
        }
        softmax::finish_sums(consumer.rows, consumer.o);
        p.store(consumer.o, consumer.rows.sum, scales.value, item, row);
    }
}

__device__ __forceinline__ void run(const Problem &p, uint32_t shared) {
    __shared__ Barriers barriers;
    const Rings rings = {shared, &barriers};
    // The shuffle tells the compiler that a warp has one role.
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
    if (warp >= 4) {
        compute(p, rings, warp / 4 - 1);
        return;
    }
    hopper::release_registers<kProducerRegisters>();
    if (warp >= 4 - kPreparers) {
        prepare(p, rings, warp - (4 - kPreparers));
        return;
    }
    // Two warps copy. They do not wait for the others, which wait for their barriers.
    if (threadIdx.x == 0) {
        rings.init_keys();
    } else if (threadIdx.x == 32) {
        rings.init_values();
    }
    __syncwarp();
    hopper::named_barrier_arrive(1 + WARPGROUPS, kThreads);
    if (threadIdx.x == 0) {
        copy_keys(p, rings);
    } else if (threadIdx.x == 32) {
        copy_values(p, rings);
    }
}

}  // namespace stream
