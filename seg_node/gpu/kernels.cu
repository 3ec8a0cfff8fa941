// Camera bytes -> network input, and scores -> labels, each in one pass over the pixels.
//
// launch.py fills the structures below and chooses grids; all blocks have 256 threads. nvcc makes
// the GPU's code of this file. The tests compile it for the CPU, where they run the same kernels.
//
// Every read of global memory goes through __ldg: none of these kernels reads what it writes.
#include <stdint.h>
#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace {

constexpr int kThreads = 256;
constexpr unsigned kInfinityBits = 0x7f800000u;  // of a float; NaNs lie above
constexpr int kSignBit = -0x7fffffff - 1;
constexpr uint8_t kUnlabelled = 255;

__device__ __forceinline__ float lerp(float a, float b, float t) { return fmaf(t, b - a, a); }

__device__ __forceinline__ float load(const float* p) { return __ldg(p); }
__device__ __forceinline__ float load(const __half* p) { return __half2float(__ldg(p)); }

}  // namespace

// ---------------------------------------------------------------------------------------------
// 1. Preprocessing: one launch for each camera of the batch.

enum SourceKind { kPacked, kYuv422, kLumaChroma };

struct PreprocessParameters {
  const uint8_t* source;
  const uint8_t* chroma;  // second plane of kLumaChroma
  const int2* columns;    // for each column of the content: low, weights of low and of its right
  const int2* rows;       // the same, low may be -1
  const float2* remap;    // for each pixel of the content its position in the source, or null
  const void* values;     // what the network gets for each grey level of red, green, blue
  void* output;
  unsigned step;          // bytes from row to row, of both planes
  int source_height, source_width;
  int kind;
  int stride;             // bytes from pixel to pixel
  int offset[3];          // of red, green, blue in a pixel; of Y, U, V in a pair or its planes
  int height, width;      // of the network
  int top, left, content_height, content_width;
  int channel[3];         // elements from the first to the channel of red, green, blue
  int row_stride, pixel_stride;
  int border;             // grey level around the content
};
static_assert(sizeof(PreprocessParameters) == 136, "as launch.py packs it");

namespace {

struct Colour {
  int red, green, blue;
};

__device__ __forceinline__ int saturate(int value) { return min(max(value, 0), 255); }

// BT.601 limited range in OpenCV's fixed point, bit for bit, so that both paths see one picture.
__device__ __forceinline__ Colour from_yuv(int y, int u, int v) {
  const int luma = max(y - 16, 0) * 1220542 + (1 << 19);
  u -= 128;
  v -= 128;
  return {saturate((luma + 1673527 * v) >> 20), saturate((luma - 852492 * v - 409993 * u) >> 20),
          saturate((luma + 2116026 * u) >> 20)};
}

template <int KIND>
__device__ __forceinline__ Colour pixel(const PreprocessParameters& p, int x, int y) {
  // 64 bits: a frame's bytes may exceed 2**31
  const size_t row = static_cast<size_t>(y) * p.step;
  if (KIND == kPacked) {
    const uint8_t* at = p.source + row + x * p.stride;
    return {__ldg(at + p.offset[0]), __ldg(at + p.offset[1]), __ldg(at + p.offset[2])};
  }
  const int even = x & ~1;  // two pixels of a row share their chroma
  const uint8_t* shared = KIND == kYuv422 ? p.source + row + even * 2
                                          : p.chroma + static_cast<size_t>(y >> 1) * p.step + even;
  return from_yuv(__ldg(p.source + row + x * p.stride + p.offset[0]), __ldg(shared + p.offset[1]),
                  __ldg(shared + p.offset[2]));
}

// What both ways of sampling below do is OpenCV's arithmetic on bytes, bit for bit: the network
// must see the same picture on every device.

// cv2.resize: a weight has 11 bits of fraction, and rows are mixed in 16 bits.
__device__ __forceinline__ int across(int left, int right, int weights) {
  return left * (weights & 0xffff) + right * (weights >> 16);
}
__device__ __forceinline__ int down(int upper, int lower, int weights) {
  return (((upper >> 4) * (weights & 0xffff) >> 16) + ((lower >> 4) * (weights >> 16) >> 16) + 2) >>
         2;
}

template <int KIND>
__device__ __forceinline__ Colour resized(const PreprocessParameters& p, int column, int row) {
  const int2 x = __ldg(p.columns + column), y = __ldg(p.rows + row);
  const int right = min(x.x + 1, p.source_width - 1);
  const int above = max(y.x, 0), below = min(y.x + 1, p.source_height - 1);
  const Colour a = pixel<KIND>(p, x.x, above), b = pixel<KIND>(p, right, above);
  const Colour c = pixel<KIND>(p, x.x, below), d = pixel<KIND>(p, right, below);
  return {saturate(down(across(a.red, b.red, x.y), across(c.red, d.red, x.y), y.y)),
          saturate(down(across(a.green, b.green, x.y), across(c.green, d.green, x.y), y.y)),
          saturate(down(across(a.blue, b.blue, x.y), across(c.blue, d.blue, x.y), y.y))};
}

// cv2.remap: positions in 32nds of a pixel, and what lies outside of the source is border.
template <int KIND>
__device__ __forceinline__ Colour remapped(const PreprocessParameters& p, int column, int row) {
  const Colour outside = {p.border, p.border, p.border};
  const float2 at = __ldg(p.remap + row * p.content_width + column);
  // Written so that NaN is outside.
  if (!(at.x > -2.f && at.x < p.source_width + 1.f && at.y > -2.f && at.y < p.source_height + 1.f))
    return outside;
  const int x = __float2int_rn(at.x * 32.f), y = __float2int_rn(at.y * 32.f);
  const int fx = x & 31, fy = y & 31;
  const int weights[4] = {(32 - fx) * (32 - fy), fx * (32 - fy), (32 - fx) * fy, fx * fy};
  Colour sum = {512, 512, 512};
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const int u = (x >> 5) + (n & 1), v = (y >> 5) + (n >> 1);
    const bool inside = u >= 0 && u < p.source_width && v >= 0 && v < p.source_height;
    const Colour one = inside ? pixel<KIND>(p, u, v) : outside;
    sum.red += one.red * weights[n];
    sum.green += one.green * weights[n];
    sum.blue += one.blue * weights[n];
  }
  return {sum.red >> 10, sum.green >> 10, sum.blue >> 10};
}

template <int KIND>
__device__ __forceinline__ Colour sample(const PreprocessParameters& p, int column, int row) {
  return p.remap == nullptr ? resized<KIND>(p, column, row) : remapped<KIND>(p, column, row);
}

// T: an unsigned word as wide as the network's type.
template <class T>
__device__ __forceinline__ void preprocess(const PreprocessParameters& p) {
  const int x = blockIdx.x * 32 + (threadIdx.x & 31), y = blockIdx.y * 8 + (threadIdx.x >> 5);
  if (x >= p.width || y >= p.height) return;
  const int column = x - p.left, row = y - p.top;
  Colour level = {p.border, p.border, p.border};
  if (column >= 0 && column < p.content_width && row >= 0 && row < p.content_height) {
    switch (p.kind) {  // the same for all threads
      case kPacked: level = sample<kPacked>(p, column, row); break;
      case kYuv422: level = sample<kYuv422>(p, column, row); break;
      default: level = sample<kLumaChroma>(p, column, row);
    }
  }
  const T* values = static_cast<const T*>(p.values);
  T* output = static_cast<T*>(p.output) + y * p.row_stride + x * p.pixel_stride;
  output[p.channel[0]] = __ldg(values + level.red);
  output[p.channel[1]] = __ldg(values + 256 + level.green);
  output[p.channel[2]] = __ldg(values + 512 + level.blue);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) preprocess_f16(PreprocessParameters p) {
  preprocess<uint16_t>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) preprocess_f32(PreprocessParameters p) {
  preprocess<unsigned>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) preprocess_u8(PreprocessParameters p) {
  preprocess<uint8_t>(p);
}

// ---------------------------------------------------------------------------------------------
// 2. The winner at each grid point: one launch for the batch, blockIdx.y is the image.

struct WinnersParameters {
  const void* scores;
  uint8_t* winners;
  float2* sums;           // greatest score and 1 / sum of exp((score - greatest) / temperature);
                          // may be null
  float* entropies;       // of the probabilities, as a share of the greatest; may be null
  unsigned* range;        // of each image: greatest magnitude above 0, below 0, as float bits
  uint64_t image_stride;  // elements from image to image
  int range_stride;       // words from image to image
  int class_stride, row_stride, point_stride;
  int classes, grid_width, points;
  float colder;  // 1 / temperature
  float share;   // 1 / the greatest entropy
};
static_assert(sizeof(WinnersParameters) == 88, "as launch.py packs it");

namespace {

__device__ __forceinline__ int warp_max(int value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes >>= 1) {
    value = max(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  }
  return value;
}

// Collects both magnitudes over the block, then with two atomics over the image. As whole numbers
// the bits of floats above 0 are in their order, and infinity and NaN come out on top.
__device__ __forceinline__ void collect_range(unsigned* range, int high, int low) {
  __shared__ int block_high, block_low;
  if (threadIdx.x == 0) block_high = block_low = 0;
  __syncthreads();
  high = warp_max(high);
  low = warp_max(low);
  if ((threadIdx.x & 31) == 0) {
    atomicMax(&block_high, high);
    atomicMax(&block_low, low);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicMax(range, static_cast<unsigned>(block_high));
    atomicMax(range + 1, static_cast<unsigned>(block_low));
  }
}

// How torn the network is at a grid point: ln(sum) + sum(e * d) / sum of logits, with d the way
// below the greatest and e = exp(-d); -sum(p * ln(p)) of probabilities.
template <class T>
__device__ __forceinline__ float entropy(const WinnersParameters& p, const T* scores, float best) {
  float total = 0.f, torn = 0.f;
#pragma unroll 4
  for (int k = 0; k < p.classes; ++k) {
    const float score = load(scores + k * p.class_stride);
    if (p.sums != nullptr) {
      // What lies so far behind counts for nothing; at infinity it would be no number.
      const float behind = fminf((best - score) * p.colder, 87.f), term = __expf(-behind);
      total += term;
      torn += term * behind;
    } else if (score > 0.f) {
      torn -= score * __logf(score);
    }
  }
  return p.sums != nullptr ? __logf(total) + torn / total : torn;
}

template <class T>
__device__ __forceinline__ void corner_winners(const WinnersParameters& p) {
  const int point = blockIdx.x * kThreads + threadIdx.x;
  int high = 0, low = 0;
  if (point < p.points) {
    const int y = point / p.grid_width, x = point - y * p.grid_width;
    const T* scores = static_cast<const T*>(p.scores) + blockIdx.y * p.image_stride +
                      y * p.row_stride + x * p.point_stride;
    float best = __int_as_float(0xff800000);  // -infinity
    int winner = 0;
#pragma unroll 4
    for (int k = 0; k < p.classes; ++k) {
      const float score = load(scores + k * p.class_stride);
      const int bits = __float_as_int(score);
      high = max(high, bits);           // negative scores are negative numbers
      low = max(low, bits ^ kSignBit);  // the magnitude of negative scores, else negative
      winner = score > best ? k : winner;
      best = fmaxf(best, score);
    }
    const size_t at = static_cast<size_t>(blockIdx.y) * p.points + point;
    p.winners[at] = static_cast<uint8_t>(winner);
    if (p.sums != nullptr) {
      float sum = 0.f;
#pragma unroll 4
      for (int k = 0; k < p.classes; ++k) {
        sum += __expf((load(scores + k * p.class_stride) - best) * p.colder);
      }
      p.sums[at] = make_float2(best, 1.f / sum);
    }
    if (p.entropies != nullptr) p.entropies[at] = entropy(p, scores, best) * p.share;
  }
  collect_range(p.range + static_cast<size_t>(blockIdx.y) * p.range_stride, high, low);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) corner_winners_f16(WinnersParameters p) {
  corner_winners<__half>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) corner_winners_f32(WinnersParameters p) {
  corner_winners<float>(p);
}

// ---------------------------------------------------------------------------------------------
// 3. Labels on the output grid: one launch for each camera.
//
// Bilinear weights are convex, so where the four corners of a cell share their winner, every pixel
// of the cell has it, and no score is read. A warp works on a tile of 8 x 4 pixels, which more
// often than a row of 32 lies within such cells.

struct LabelsParameters {
  const void* scores;
  const uint8_t* winners;
  const float2* sums;  // null: the confidence is the score itself
  const float* entropies;
  const unsigned* range;
  const int2* columns;  // for each column of the output: low, bits of the float32 fraction
  const int2* rows;
  const double* exact_columns;  // the same fractions as float64
  const double* exact_rows;
  uint8_t* labels;
  uint8_t* confidence;  // may be null
  uint8_t* entropy;     // may be null
  uint8_t* product[2];  // product[n][pixel] = lut[n][label]; may be null
  const uint8_t* lut[2];
  int class_stride, row_stride, point_stride;
  int classes, grid_height, grid_width, height, width;
  float colder;  // 1 / temperature
};
static_assert(sizeof(LabelsParameters) == 168, "as launch.py packs it");

namespace {

// The scores of one class at the corners of a pixel's cell.
template <class T>
struct Corners {
  const T *upper_left, *upper_right, *lower_left, *lower_right;  // of class 0

  __device__ __forceinline__ float4 of(int offset) const {
    return make_float4(load(upper_left + offset), load(upper_right + offset),
                       load(lower_left + offset), load(lower_right + offset));
  }
};

__device__ __forceinline__ float bilinear(float4 v, float fx, float fy) {
  return lerp(lerp(v.x, v.z, fy), lerp(v.y, v.w, fy), fx);
}

__device__ __forceinline__ double exact_mix(double a, double b, double t) {
  // Not contracted to fused operations: the CPU's result to the last bit, ties included.
  return __dadd_rn(__dmul_rn(a, 1.0 - t), __dmul_rn(b, t));
}

// The class that the CPU's arithmetic finds.
template <class T>
__device__ __forceinline__ int contest_exact(const LabelsParameters& p, const Corners<T>& corners,
                                             int x, int y) {
  const double fx = __ldg(p.exact_columns + x), fy = __ldg(p.exact_rows + y);
  double best = 0.0;
  int label = -1;
#pragma unroll 1
  for (int k = 0; k < p.classes; ++k) {
    const float4 v = corners.of(k * p.class_stride);
    const double value = exact_mix(exact_mix(v.x, v.z, fy), exact_mix(v.y, v.w, fy), fx);
    if (label < 0 || value > best) {
      best = value;
      label = k;
    }
  }
  return label;
}

// With M the greatest magnitude of all scores and u = 2**-24, rounding the fraction moves a lerp by
// M u, its subtraction rounds by 2 M u, its fma by M u: 4 M u, for two in a row 8 M u, for the
// difference of two classes 16 M u = 2**-20 M. The margin is twice that. Its constant covers the
// rounding of subnormal numbers; near the end of the float range, where b - a overflows, every
// pixel is close.
__device__ __forceinline__ float tie_margin(unsigned peak) {
  return peak < 0x7e000000u ? fmaf(__uint_as_float(peak), 0x1p-19f, 0x1p-126f)
                            : __uint_as_float(kInfinityBits);
}

template <class T>
__device__ __forceinline__ int contest(const LabelsParameters& p, const Corners<T>& corners, int x,
                                       int y, float fx, float fy, unsigned peak) {
  float best = bilinear(corners.of(0), fx, fy), second = __int_as_float(0xff800000);
  int label = 0;
#pragma unroll 4
  for (int k = 1; k < p.classes; ++k) {
    const float value = bilinear(corners.of(k * p.class_stride), fx, fy);
    label = value > best ? k : label;
    second = fmaxf(second, fminf(best, value));
    best = fmaxf(best, value);
  }
  // Written so that NaN, of infinities that overflow made, is close, too.
  return best - second > tie_margin(peak) ? label : contest_exact(p, corners, x, y);
}

__device__ __forceinline__ float4 softmax(float4 v, const float2* sums, int4 point,
                                          float colder) {
  const float2 a = __ldg(sums + point.x), b = __ldg(sums + point.y), c = __ldg(sums + point.z),
               d = __ldg(sums + point.w);
  return make_float4(__expf((v.x - a.x) * colder) * a.y, __expf((v.y - b.x) * colder) * b.y,
                     __expf((v.z - c.x) * colder) * c.y, __expf((v.w - d.x) * colder) * d.y);
}

__device__ __forceinline__ uint8_t in_255ths(float share) {
  return static_cast<uint8_t>(min(max(static_cast<int>(fmaf(share, 255.f, 0.5f)), 0), 255));
}

__device__ __forceinline__ void write(const LabelsParameters& p, int at, int label) {
  p.labels[at] = static_cast<uint8_t>(label);
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    if (p.product[n] != nullptr) p.product[n][at] = __ldg(p.lut[n] + label);
  }
}

template <class T>
__device__ __forceinline__ void labels(const LabelsParameters& p) {
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int x = blockIdx.x * 32 + (warp & 3) * 8 + (lane & 7);
  const int y = blockIdx.y * 8 + (warp >> 2) * 4 + (lane >> 3);
  if (x >= p.width || y >= p.height) return;
  const int at = y * p.width + x;
  const unsigned peak = max(__ldg(p.range), __ldg(p.range + 1));
  if (peak >= kInfinityBits) {  // the whole frame is refused: leave nothing that looks like labels
    write(p, at, kUnlabelled);
    if (p.confidence != nullptr) p.confidence[at] = 0;
    if (p.entropy != nullptr) p.entropy[at] = 255;
    return;
  }
  const int2 column = __ldg(p.columns + x), row = __ldg(p.rows + y);
  const float fx = __int_as_float(column.y), fy = __int_as_float(row.y);
  const int right = min(column.x + 1, p.grid_width - 1);
  const int below = min(row.x + 1, p.grid_height - 1);
  const int4 point = make_int4(row.x * p.grid_width + column.x, row.x * p.grid_width + right,
                               below * p.grid_width + column.x, below * p.grid_width + right);
  const T* scores = static_cast<const T*>(p.scores);
  const T *upper = scores + row.x * p.row_stride, *lower = scores + below * p.row_stride;
  const Corners<T> corners = {upper + column.x * p.point_stride, upper + right * p.point_stride,
                              lower + column.x * p.point_stride, lower + right * p.point_stride};
  int label = __ldg(p.winners + point.x);
  if (label != __ldg(p.winners + point.y) || label != __ldg(p.winners + point.z) ||
      label != __ldg(p.winners + point.w)) {
    label = contest(p, corners, x, y, fx, fy, peak);
  }
  write(p, at, label);
  if (p.confidence != nullptr) {
    float4 v = corners.of(label * p.class_stride);
    if (p.sums != nullptr) v = softmax(v, p.sums, point, p.colder);
    p.confidence[at] = in_255ths(bilinear(v, fx, fy));
  }
  if (p.entropy != nullptr) {
    const float* torn = p.entropies;
    p.entropy[at] = in_255ths(bilinear(make_float4(__ldg(torn + point.x), __ldg(torn + point.y),
                                                   __ldg(torn + point.z), __ldg(torn + point.w)),
                                       fx, fy));
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) labels_f16(LabelsParameters p) {
  labels<__half>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) labels_f32(LabelsParameters p) {
  labels<float>(p);
}

// ---------------------------------------------------------------------------------------------
// 4. Pixels of each class: one launch for each camera.

struct HistogramParameters {
  const uint8_t* labels;  // begins at a multiple of 16 bytes
  unsigned* counts;       // 256, added to
  unsigned pixels;
};
static_assert(sizeof(HistogramParameters) == 24, "as launch.py packs it");

namespace {

// Counts runs of equal labels, so that a road costs one addition for 16 pixels.
struct Run {
  unsigned* counts;
  unsigned label, length;

  __device__ __forceinline__ void add(unsigned next) {
    if (next != label) {
      atomicAdd(counts + label, length);
      label = next;
      length = 0;
    }
    ++length;
  }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) class_histogram(HistogramParameters p) {
  __shared__ unsigned counts[kThreads / 32][256];  // one for each warp: fewer collisions
  for (int n = 0; n < kThreads / 32; ++n) counts[n][threadIdx.x] = 0;
  __syncthreads();
  unsigned* own = counts[threadIdx.x >> 5];
  const unsigned thread = blockIdx.x * kThreads + threadIdx.x, threads = gridDim.x * kThreads;
  const uint4* packs = reinterpret_cast<const uint4*>(p.labels);
  for (unsigned i = thread; i < p.pixels / 16; i += threads) {
    const uint4 pack = __ldg(packs + i);
    const unsigned words[4] = {pack.x, pack.y, pack.z, pack.w};
    Run run = {own, pack.x & 255, 0};
#pragma unroll
    for (int n = 0; n < 16; ++n) run.add((words[n / 4] >> (n % 4 * 8)) & 255);
    atomicAdd(own + run.label, run.length);
  }
  const unsigned rest = p.pixels & ~15u;
  if (thread < p.pixels - rest) atomicAdd(own + __ldg(p.labels + rest + thread), 1u);
  __syncthreads();
  unsigned sum = 0;
  for (int n = 0; n < kThreads / 32; ++n) sum += counts[n][threadIdx.x];
  if (sum > 0) atomicAdd(p.counts + threadIdx.x, sum);
}
