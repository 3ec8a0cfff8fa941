// A network for checks where there is no TensorRT: stand_in.py fills its parameters and says what
// it computes. One thread a cell of 4 x 4 input pixels, blockIdx.y is the image.
#include <stdint.h>
#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

struct StandInParameters {
  const void* input;     // images x 3 x height x width, float32 or float16
  float* scores;         // images x classes x height / stride x width / stride
  const float* palette;  // colours x 3, as they stand in the input
  const float* table;    // colours x classes
  int height, width, stride, colours, classes, half, rounds;
};
static_assert(sizeof(StandInParameters) == 64, "as stand_in.py packs it");

extern "C" __global__ void __launch_bounds__(256) stand_in(StandInParameters p) {
  const int rows = p.height / p.stride, columns = p.width / p.stride;
  const int cell = blockIdx.x * 256 + threadIdx.x, image = blockIdx.y;
  if (cell >= rows * columns) return;
  const int y = cell / columns * p.stride + p.stride / 2;
  const int x = cell % columns * p.stride + p.stride / 2;
  float colour[3];
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    const size_t at = (static_cast<size_t>(image * 3 + c) * p.height + y) * p.width + x;
    colour[c] = p.half ? __half2float(__ldg(static_cast<const __half*>(p.input) + at))
                       : __ldg(static_cast<const float*>(p.input) + at);
  }
  // The work of a network, as time: a chain that no compiler can shorten and no score depends on.
  float chain = colour[0];
#pragma unroll 1
  for (int n = 0; n < p.rounds; ++n) chain = fmaf(chain, 0.999f, colour[1]);
  int nearest = 0;
  float best = 0.f;
#pragma unroll 1
  for (int k = 0; k < p.colours; ++k) {
    float distance = 0.f;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      const float d = colour[c] - __ldg(p.palette + 3 * k + c);
      distance = fmaf(d, d, distance);
    }
    if (k == 0 || distance < best) {
      nearest = k;
      best = distance;
    }
  }
  if (chain == 1e30f) nearest = 0;  // never so: the chain stays within 1000 times the input
#pragma unroll 1
  for (int k = 0; k < p.classes; ++k) {
    p.scores[static_cast<size_t>(image * p.classes + k) * rows * columns + cell] =
        __ldg(p.table + nearest * p.classes + k);
  }
}
