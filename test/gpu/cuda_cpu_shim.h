// Runs CUDA C kernels on the CPU, so that tests need no GPU: include this, then the .cu file, then
// name the kernels by CPU_KERNEL or, where threads of a block work together, CPU_KERNEL_FIBERS.
//
// What one thread computes is computed here by the same source. Blocks and threads run one after
// another, so this shows numbers, bounds and barriers, not speed and not races.
#pragma once
#include <csetjmp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__ inline
#define __forceinline__
#define __launch_bounds__(...)
#define __shared__ static thread_local

struct dim3 { unsigned x, y, z; };
static thread_local dim3 gridDim, blockDim, blockIdx, threadIdx;

struct alignas(8) int2 { int x, y; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }

template <class To, class From> inline To bit_copy(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline float __int_as_float(int v) { return bit_copy<float>(v); }
inline float __uint_as_float(unsigned v) { return bit_copy<float>(v); }
inline int __float_as_int(float v) { return bit_copy<int>(v); }
inline int __float2int_rn(float v) { return static_cast<int>(std::lrintf(v)); }
// As the GPU has it: its error is that of the product, which grows with the argument.
inline float __expf(float v) { return std::exp2(v * 1.44269504f); }
inline float __logf(float v) { return std::log2(v) * 0.69314718f; }
inline double __dadd_rn(double a, double b) { return a + b; }  // built with -ffp-contract=off
inline double __dmul_rn(double a, double b) { return a * b; }

struct __half { uint16_t bits; };
inline __half __float2half_rn(float value) {  // to nearest, ties to even
  const uint32_t x = bit_copy<uint32_t>(value), sign = x >> 16 & 0x8000u;
  uint32_t a = x & 0x7fffffffu;
  if (a > 0x7f800000u) a = 0x7fffu;
  else if (a >= 0x477ff000u) a = 0x7c00u;  // 65520 and above
  else if (a < 0x38800000u) a = bit_copy<uint32_t>(bit_copy<float>(a) + 0.5f) - 0x3f000000u;
  else a = (a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13;
  return {static_cast<uint16_t>(sign | a)};
}
inline float __half2float(__half h) {
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16, mantissa = h.bits & 0x3ffu;
  const uint32_t exponent = h.bits >> 10 & 31u;
  if (exponent == 31) return bit_copy<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent) return bit_copy<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  return bit_copy<float>(sign | bit_copy<uint32_t>(mantissa * 0x1p-24f));
}

namespace cpusim {

// ---- Reads, watched: which bytes of which buffers a launch reads, and whether all reads hit one.
struct Watched { uintptr_t begin, end; uint8_t* seen; };
static std::vector<Watched> watched;
static size_t strays = 0;

inline void note(const void* at, size_t size) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(at);
  for (const Watched& w : watched) {
    if (begin >= w.begin && begin + size <= w.end) {
      std::memset(w.seen + (begin - w.begin), 1, size);
      return;
    }
  }
  ++strays;
}

// ---- Memory that the GPU does not cache: each access of a warp fetches the sectors it touches.
struct Range { uintptr_t begin, end; };
static std::vector<Range> uncached;
static size_t sectors = 0;
static thread_local size_t access = 0;  // of this thread, counted from its start
static thread_local std::vector<std::vector<uintptr_t>> fetched;  // by each access of this warp

inline void fetch(const void* at, size_t size) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(at);
  for (const Range& range : uncached) {
    if (begin < range.begin || begin + size > range.end) continue;
    if (fetched.size() <= access) fetched.resize(access + 1);
    std::vector<uintptr_t>& there = fetched[access++];
    for (uintptr_t sector = begin / 32; sector <= (begin + size - 1) / 32; ++sector) {
      bool known = false;
      for (uintptr_t one : there) known = known || one == sector;
      if (!known) there.push_back(sector);
      sectors += !known;
    }
    return;
  }
}

// ---- Fibers: the threads of a block, switched at each barrier.
struct Fiber {
  ucontext_t start;
  jmp_buf resume;
  std::unique_ptr<char[]> stack;
  bool started, done;
  int slots[2];  // what a shuffle shows to the others, alternating
  unsigned shuffles;
};
constexpr size_t kStack = 32768;
static thread_local std::vector<Fiber>* fibers = nullptr;
static thread_local size_t current = 0;
static thread_local jmp_buf scheduler;
static thread_local void (*body)(void*);
static thread_local void* body_argument;

inline void enter() {
  body(body_argument);
  (*fibers)[current].done = true;
  _longjmp(scheduler, 1);
}

inline void barrier() {
  if (!_setjmp((*fibers)[current].resume)) _longjmp(scheduler, 1);
}

inline void step(size_t index) {
  Fiber& fiber = (*fibers)[index];
  current = index;
  if (_setjmp(scheduler)) return;
  if (fiber.started) _longjmp(fiber.resume, 1);
  fiber.started = true;
  setcontext(&fiber.start);
}

inline int shuffle_xor(int value, int lanes) {
  const unsigned slot = (*fibers)[current].shuffles++ & 1;
  (*fibers)[current].slots[slot] = value;
  barrier();
  return (*fibers)[current ^ static_cast<size_t>(lanes)].slots[slot];
}

template <class F> void run_block(F& call) {
  body = [](void* argument) { (*static_cast<F*>(argument))(); };
  body_argument = &call;
  for (Fiber& fiber : *fibers) {
    fiber.started = fiber.done = false;
    fiber.shuffles = 0;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = kStack;
    makecontext(&fiber.start, enter, 0);
  }
  for (size_t done = 0; done < fibers->size();) {
    done = 0;
    for (size_t i = 0; i < fibers->size(); ++i) {
      threadIdx = {static_cast<unsigned>(i), 0, 0};
      step(i);
      done += (*fibers)[i].done;
    }
    if (done > 0 && done < fibers->size()) {
      std::fprintf(stderr, "cpusim: %zu threads ended, others wait at a barrier\n", done);
      std::abort();
    }
  }
}

// ---- Launches. Blocks have one dimension; a kernel takes one structure by value.
template <bool FIBERS, class P>
void launch(void (*kernel)(P), const unsigned* sizes, void** pointers, char* buffer) {
  gridDim = {sizes[0], sizes[1], sizes[2]};
  blockDim = {sizes[3], sizes[4], sizes[5]};
  P parameters;
  std::memcpy(&parameters, pointers ? pointers[0] : buffer, sizeof parameters);
  auto call = [&] { kernel(parameters); };
  std::vector<Fiber> own(FIBERS ? blockDim.x : 0);
  for (Fiber& fiber : own) fiber.stack.reset(new char[kStack]);
  fibers = &own;
  for (unsigned z = 0; z < gridDim.z; ++z)
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = {x, y, z};
        if (FIBERS) {
          run_block(call);
          continue;
        }
        for (unsigned i = 0; i < blockDim.x; ++i) {
          threadIdx = {i, 0, 0};
          access = 0;
          if (i % 32 == 0) fetched.clear();
          call();
        }
      }
}

}  // namespace cpusim

template <class T> inline T __ldg(const T* at) {
  if (!cpusim::watched.empty()) cpusim::note(at, sizeof(T));
  if (!cpusim::uncached.empty()) cpusim::fetch(at, sizeof(T));
  return *at;
}
template <class T> inline T atomicAdd(T* at, T value) {
  const T old = *at;
  *at = old + value;
  return old;
}
template <class T> inline T atomicMax(T* at, T value) {
  const T old = *at;
  *at = max(old, value);
  return old;
}
inline int __shfl_xor_sync(unsigned, int value, int lanes) {
  return cpusim::shuffle_xor(value, lanes);
}
#define __syncthreads() cpusim::barrier()

// NAME__cpu(sizes, pointers, buffer): sizes are grid and block; the parameters are given as
// cuLaunchKernel has them, by an array of pointers or by one packed buffer.
#define CPU_KERNEL_AS(name, fibers)                                                \
  extern "C" void name##__cpu(const unsigned* sizes, void** pointers, char* buffer) { \
    cpusim::launch<fibers>(name, sizes, pointers, buffer);                         \
  }
#define CPU_KERNEL(name) CPU_KERNEL_AS(name, false)
#define CPU_KERNEL_FIBERS(name) CPU_KERNEL_AS(name, true)

// Watch the reads of a buffer; seen gets a 1 for each byte read.
extern "C" void cpusim_watch(const void* at, size_t size, uint8_t* seen) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(at);
  cpusim::watched.push_back({begin, begin + size, seen});
}
// Stop watching; return how many reads hit no watched buffer.
extern "C" size_t cpusim_unwatch() {
  const size_t strays = cpusim::strays;
  cpusim::watched.clear();
  cpusim::strays = 0;
  return strays;
}
// Say that memory is not cached; none is any more once the sectors fetched from it are asked for.
extern "C" void cpusim_uncached(const void* at, size_t size) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(at);
  cpusim::uncached.push_back({begin, begin + size});
}
extern "C" size_t cpusim_sectors() {
  const size_t sectors = cpusim::sectors;
  cpusim::uncached.clear();
  cpusim::sectors = 0;
  return sectors;
}
extern "C" uint16_t cpusim_to_half(float value) { return __float2half_rn(value).bits; }
extern "C" float cpusim_from_half(uint16_t bits) { return __half2float({bits}); }
