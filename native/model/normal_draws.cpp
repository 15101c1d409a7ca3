// Box and Muller 1958, "A note on the generation of random normal deviates", on Philox: from two uniform u1, u2 in (0, 1)
//   z0 = sqrt(-2 ln u1) cos(2 pi u2),  z1 = sqrt(-2 ln u1) sin(2 pi u2)
// Elements 2p and 2p + 1 of a sequence are the z0 and z1 of the Philox block with counter p. In double, rounded once.
//
// Logarithm, sine and cosine are written out, with the polynomials of fdlibm (Sun Microsystems 1993; errors below one unit in the last
// place of a double), because calls of the C library's keep a loop from being vectorised, and its values differ between libraries.
// Their arguments need no range checks: u1 is no less than 2^-33, and u2 says in which quarter of the circle the angle lies.
#include "model/normal_draws.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/random.h"

namespace polypaca {
namespace {

constexpr uint32_t kDomain = 0x4E4F524Du;  // "NORM": keeps these blocks apart from other uses of the same seed
constexpr int kBlock = 256;                // pairs between two loops: their words and draws stay in the first cache

/// (word + 0.5) / 2^32. By way of a signed integer, which every instruction set converts by whole registers.
POLYPACA_INLINE double uniform(uint32_t word) { return (double(int32_t(word ^ 0x80000000u)) + 2147483648.5) * 0x1p-32; }

/// ln u for a normal, positive u: u = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
POLYPACA_INLINE double logarithm(double u) {
  constexpr uint64_t kOne = 0x3FF0000000000000u, kSqrtHalf = 0x3FE6A09E00000000u, kMantissa = 0x000FFFFFFFFFFFFFu;
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  const uint64_t bits = std::bit_cast<uint64_t>(u) + (kOne - kSqrtHalf);
  const double k = double(int32_t(bits >> 52) - 0x3FF);
  const double f = std::bit_cast<double>((bits & kMantissa) + kSqrtHalf) - 1.0;
  const double half = 0.5 * f * f, s = f / (2.0 + f), z = s * s, w = z * z;
  const double odd = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  const double even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  return s * (half + odd + even) + k * kLn2Low - half + f + k * kLn2High;
}

/// |x| <= pi / 4.
POLYPACA_INLINE double sine(double x) {
  const double z = x * x, w = z * z;
  const double r = 8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 + z * 2.75573137070700676789e-06) +
                   z * w * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10);
  return x + z * x * (-1.66666666666666324348e-01 + z * r);
}

/// |x| <= pi / 4.
POLYPACA_INLINE double cosine(double x) {
  const double z = x * x, w = z * z;
  const double r = z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * 2.48015872894767294178e-05)) +
                   w * w * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11));
  const double half = 0.5 * z, y = 1.0 - half;
  return y + (((1.0 - y) - half) + z * r);
}

/// Pairs [first, first + n), n <= kBlock.
void draw_pairs(float* z0, float* z1, uint64_t first, int n, uint64_t seed, uint32_t stream, double deviation) {
  constexpr double kHalfPiHigh = 1.57079632673412561417e+00, kHalfPiLow = 6.07710050650619224932e-11;
  uint32_t words[2][kBlock];
  for (int i = 0; i < n; ++i) {
    const uint64_t pair = first + uint64_t(i);
    const Philox4 r = philox4x32<10>(uint32_t(pair), uint32_t(pair >> 32), stream, kDomain, uint32_t(seed), uint32_t(seed >> 32));
    words[0][i] = r.v[0];
    words[1][i] = r.v[1];
  }
  for (int i = 0; i < n; ++i) {
    const double radius = deviation * std::sqrt(-2.0 * logarithm(uniform(words[0][i])));
    const double angle = 2.0 * M_PI * uniform(words[1][i]);
    // The nearest quarter turn, 0 to 4, and what is left of the angle.
    const int32_t quarter = int32_t((words[1][i] >> 29) + 1) >> 1;
    const double x = (angle - quarter * kHalfPiHigh) - quarter * kHalfPiLow;
    const double s = sine(x), c = cosine(x);
    const double cosine_part = quarter & 1 ? s : c, sine_part = quarter & 1 ? c : s;
    z0[i] = float(radius * ((quarter + 1) & 2 ? -cosine_part : cosine_part));
    z1[i] = float(radius * (quarter & 2 ? -sine_part : sine_part));
  }
}

}  // namespace

void normal_draws(float* dst, int64_t first, int64_t n, uint64_t seed, uint32_t stream, float deviation) {
  const int64_t end = first + n, first_pair = first / 2, end_pair = (end + 1) / 2;
#pragma omp parallel for schedule(static)
  for (int64_t pair = first_pair; pair < end_pair; pair += kBlock) {
    float z0[kBlock], z1[kBlock];
    const int count = int(std::min<int64_t>(kBlock, end_pair - pair));
    draw_pairs(z0, z1, uint64_t(pair), count, seed, stream, deviation);
    for (int i = 0; i < count; ++i) {
      const int64_t at = 2 * (pair + i);
      if (at >= first) dst[at - first] = z0[i];
      if (at + 1 < end) dst[at + 1 - first] = z1[i];
    }
  }
}

}  // namespace polypaca
