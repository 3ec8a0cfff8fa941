// A stand-in for a network, as a kernel of the simulated GPU: looks at the pixel in the middle of
// each cell of STRIDE x STRIDE input pixels, finds the palette colour it is nearest to, and gives
// that colour's row of a table as the cell's scores. So a wrong input shows in the labels.
#include <cstdint>
#include <cstring>

namespace {

struct Parameters {
  const void* input;     // float32 or float16 bits, N x 3 x height x width
  float* scores;         // N x classes x height / stride x width / stride
  const float* palette;  // colours x 3, as they stand in the input
  const float* table;    // colours x classes
  int images, height, width, stride, colours, classes, half;
};

float from_half(uint16_t bits) {  // normal numbers and 0 are all that comes
  if (!(bits & 0x7fffu)) return 0;
  const uint32_t word = uint32_t(bits & 0x8000u) << 16 | ((bits & 0x7fffu) + 0x1c000u) << 13;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace

extern "C" void stand_in__cpu(const unsigned*, void**, char* buffer) {
  Parameters p;
  std::memcpy(&p, buffer, sizeof p);
  const int rows = p.height / p.stride, columns = p.width / p.stride;
  for (int n = 0; n < p.images; ++n)
    for (int y = 0; y < rows; ++y)
      for (int x = 0; x < columns; ++x) {
        float colour[3];
        for (int c = 0; c < 3; ++c) {
          const long at = ((n * 3L + c) * p.height + y * p.stride + p.stride / 2) * p.width
                          + x * p.stride + p.stride / 2;
          colour[c] = p.half ? from_half(static_cast<const uint16_t*>(p.input)[at])
                             : static_cast<const float*>(p.input)[at];
        }
        int nearest = 0;
        float best = 0;
        for (int k = 0; k < p.colours; ++k) {
          float distance = 0;
          for (int c = 0; c < 3; ++c) {
            const float d = colour[c] - p.palette[3 * k + c];
            distance += d * d;
          }
          if (!k || distance < best) nearest = k, best = distance;
        }
        for (int k = 0; k < p.classes; ++k)
          p.scores[((n * long(p.classes) + k) * rows + y) * columns + x] =
              p.table[nearest * p.classes + k];
      }
}
