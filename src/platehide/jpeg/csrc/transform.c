/* Discrete cosine transforms: blocks to reduced pixels, RGB to quantised blocks. */
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

const uint8_t ZIGZAG[BLOCK] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* Where a coefficient goes in `low`, by zigzag index: [vertical][horizontal] frequency, 16 for
 * those that are not used. Only the lowest scale x scale frequencies make the picture. */
const uint8_t LOW_PLACE[3][25] = {
    {0},
    {0, 1, 4, 16, 5},
    {0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 16, 13, 10, 7, 16, 16, 16, 11, 14, 16, 16, 16, 16, 16, 15}};

void low_steps(const uint16_t quant[BLOCK], float steps[16]) {
  for (int i = 0; i < 16; i++) steps[i] = 0;
  for (int k = 0; k < 25; k++)
    if (LOW_PLACE[2][k] < 16) steps[LOW_PLACE[2][k]] = quant[k];
}

static inline uint8_t clamp8(float value) {
  int rounded = (int)(value + 128.5f);
  return (uint8_t)(rounded < 0 ? 0 : rounded > 255 ? 255 : rounded);
}

/* Mean of the basis function cos((2x + 1) u pi / 16) over the pixels of a cell, with the DCT's
 * normalisation: sqrt(1/8) for u = 0, 1/2 else; for cells of 2 pixels (scale 4) and, with HALF,
 * of 4 pixels (scale 2). */
#define C0 0.35355339f
#define HALF 0.32036443f

/* The same as a matrix: [cell][frequency]. */
static const float CELLS[4][4] = {{C0, 0.45306372f, 0.32664074f, 0.15909483f},
                                  {C0, 0.18766514f, -0.32664074f, -0.38408888f},
                                  {C0, -0.18766514f, -0.32664074f, 0.38408888f},
                                  {C0, -0.45306372f, 0.32664074f, -0.15909483f}};

#if defined(__GNUC__)
typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));

/* Four pixels of a row at once: columns first, then rows. */
static inline void cells_of(const int16_t low[17], const float steps[16], uint8_t *out,
                            int stride) {
  float4 in[4];
  for (int v = 0; v < 4; v++)
    in[v] = (float4){(float)low[4 * v], (float)low[4 * v + 1], (float)low[4 * v + 2],
                     (float)low[4 * v + 3]} *
            (float4){steps[4 * v], steps[4 * v + 1], steps[4 * v + 2], steps[4 * v + 3]};
  float4 basis[4];
  for (int u = 0; u < 4; u++)
    basis[u] = (float4){CELLS[0][u], CELLS[1][u], CELLS[2][u], CELLS[3][u]};
  float4 mean = in[0] * C0;
  int4 rows[4];
  for (int y = 0; y < 4; y++) {
    float4 half = mean + in[1] * CELLS[y][1] + in[2] * CELLS[y][2] + in[3] * CELLS[y][3];
    float4 row = half[0] * basis[0] + half[1] * basis[1] + half[2] * basis[2] +
                 half[3] * basis[3] + 128.5f;
    rows[y] = __builtin_convertvector(row, int4);
  }
#ifdef __SSE2__
  /* Narrowing cuts off at 0 and 255 by itself. */
  const __m128i upper = _mm_packs_epi32((__m128i)rows[0], (__m128i)rows[1]);
  const __m128i lower = _mm_packs_epi32((__m128i)rows[2], (__m128i)rows[3]);
  uint8_t pixels[16];
  _mm_storeu_si128((__m128i *)pixels, _mm_packus_epi16(upper, lower));
  for (int y = 0; y < 4; y++) memcpy(out + y * stride, pixels + 4 * y, 4);
#else
  for (int y = 0; y < 4; y++) {
    int4 value = rows[y] & ~(rows[y] < 0);
    int4 over = value > 255;
    value = (value & ~over) | (over & 255);
    for (int x = 0; x < 4; x++) out[y * stride + x] = (uint8_t)value[x];
  }
#endif
}
#else
static inline void cells_of(const int16_t low[17], const float steps[16], uint8_t *out,
                            int stride) {
  for (int y = 0; y < 4; y++) {
    float half[4];
    for (int u = 0; u < 4; u++) {
      half[u] = 0;
      for (int v = 0; v < 4; v++) half[u] += CELLS[y][v] * (float)low[4 * v + u] * steps[4 * v + u];
    }
    for (int x = 0; x < 4; x++) {
      float sum = 0;
      for (int u = 0; u < 4; u++) sum += CELLS[x][u] * half[u];
      out[y * stride + x] = clamp8(sum);
    }
  }
}
#endif

void low_pixels(const int16_t low[17], const float steps[16], int scale, uint8_t *out,
                int stride) {
  if (scale == 1) {
    out[0] = clamp8((float)low[0] * steps[0] * 0.125f);
    return;
  }
  if (scale == 2) {
    const float edge = C0 * HALF, corner = HALF * HALF;
    float mean = (float)low[0] * steps[0] * 0.125f, x = (float)low[1] * steps[1] * edge;
    float y = (float)low[4] * steps[4] * edge, xy = (float)low[5] * steps[5] * corner;
    out[0] = clamp8(mean + x + y + xy);
    out[1] = clamp8(mean - x + y - xy);
    out[stride] = clamp8(mean + x - y - xy);
    out[stride + 1] = clamp8(mean - x - y + xy);
    return;
  }
  cells_of(low, steps, out, stride);
}

void flat_pixels(int dc, const float steps[16], int scale, uint8_t *out, int stride) {
  uint8_t value = clamp8((float)dc * steps[0] * 0.125f);
  for (int i = 0; i < scale; i++) memset(out + i * stride, value, (size_t)scale);
}

void reduced_planes(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK], int scale,
                    const int16_t *const coefficients[MAX_COMPONENTS],
                    const plane_t planes[MAX_COMPONENTS]) {
  const int last = scale == 4 ? 24 : scale == 2 ? 4 : 0;
  const uint8_t *place = LOW_PLACE[scale >> 1];
  for (int i = 0; i < frame->components; i++) {
    float steps[16];
    low_steps(quant[i], steps);
    const component_t *c = &frame->component[i];
    const int16_t *block = coefficients[i];
    for (int y = 0; y < c->blocks_h; y++) {
      uint8_t *row = planes[i].pixels + (size_t)y * (size_t)scale * (size_t)planes[i].stride;
      for (int x = 0; x < c->blocks_w; x++, block += BLOCK) {
        int16_t low[17] = {0};
        for (int k = 0; k <= last; k++) low[place[k]] = block[k];
        low_pixels(low, steps, scale, row + (size_t)x * (size_t)scale, planes[i].stride);
      }
    }
  }
}

/* ---- forward ------------------------------------------------------------------------------------ */

/* JFIF's YCbCr (ITU-R BT.601, full range), luma and chroma centred on 0. */
static const float TO_YCC[3][4] = {{0.299f, 0.587f, 0.114f, -128.0f},
                                   {-0.168735892f, -0.331264108f, 0.5f, 0.0f},
                                   {0.5f, -0.418687589f, -0.081312411f, 0.0f}};

#if defined(__GNUC__)
typedef float float8 __attribute__((vector_size(32)));

/* out = a b. Each sum runs from 0 to 7 in this order, whatever the processor. */
static inline void product(const float a[8][8], const float b[8][8], float out[8][8]) {
  float8 row[8];
  memcpy(row, b, sizeof row);
  for (int i = 0; i < 8; i++) {
    float8 sum = {0};
    for (int k = 0; k < 8; k++) sum += a[i][k] * row[k];
    memcpy(out[i], &sum, sizeof sum);
  }
}
#else
static inline void product(const float a[8][8], const float b[8][8], float out[8][8]) {
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < 8; j++) {
      float sum = 0;
      for (int k = 0; k < 8; k++) sum += a[i][k] * b[k][j];
      out[i][j] = sum;
    }
}
#endif

static void quantise_block(const float samples[8][8], const float cosines[8][8],
                           const float turned[8][8], const float steps[BLOCK], int16_t *out) {
  /* Rounds to the nearest, ties to even, any number that can come here. */
  const float round = 12582912.0f;
  float half[8][8], whole[8][8];
  product(cosines, samples, half);
  product((const float(*)[8])half, turned, whole);
  for (int k = 0; k < BLOCK; k++) {
    float value = whole[ZIGZAG[k] >> 3][ZIGZAG[k] & 7] / steps[k];
    int rounded = (int)((value + round) - round);
    /* Beyond these an 8-bit baseline decoder need not follow (T.81 table F.1, F.2). */
    int low = k ? -1023 : -1024;
    out[k] = (int16_t)(rounded < low ? low : rounded > 1023 ? 1023 : rounded);
  }
}

/* The samples of a block whose first pixel is at `rgb`: means of sx x sy pixels. */
static inline void block_samples(const float to[4], const uint8_t *rgb, size_t stride, int sx,
                                 int sy, float samples[8][8]) {
  const float share = (float)(sx * sy);
  float row[8 * MAX_FACTOR];
  for (int y = 0; y < 8; y++) {
    float sums[8] = {0};
    for (int v = 0; v < sy; v++, rgb += stride) {
      for (int x = 0; x < 8 * sx; x++)
        row[x] = to[0] * rgb[3 * x] + to[1] * rgb[3 * x + 1] + to[2] * rgb[3 * x + 2] + to[3];
      for (int u = 0; u < sx; u++)
        for (int x = 0; x < 8; x++) sums[x] += row[x * sx + u];
    }
    for (int x = 0; x < 8; x++) samples[y][x] = sums[x] / share;
  }
}

MORE_THAN_ONE_CPU
void forward_transform(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK],
                       const uint8_t *rgb, const uint8_t *changed,
                       int16_t *const coefficients[MAX_COMPONENTS], uint8_t *touched) {
  const size_t width = (size_t)frame->mcus_x * 8 * (size_t)frame->h_max;
  float cosines[8][8], turned[8][8], samples[8][8], steps[BLOCK];
  for (int u = 0; u < 8; u++)
    for (int x = 0; x < 8; x++)
      turned[x][u] = cosines[u][x] = (u ? 0.5f : C0) * cosf((float)((2 * x + 1) * u) * 3.14159265358979f / 16);
  memset(touched, 0, (size_t)frame->mcus_x * (size_t)frame->mcus_y);
  for (int i = 0; i < frame->components; i++) {
    const component_t *c = &frame->component[i];
    const int sx = frame->h_max / c->h, sy = frame->v_max / c->v;
    const float *to = TO_YCC[i];
    for (int k = 0; k < BLOCK; k++) steps[k] = quant[i][k];
    for (int by = 0; by < c->blocks_h; by++)
      for (int bx = 0; bx < c->blocks_w; bx++) {
        size_t top = (size_t)by * 8 * (size_t)sy, left = (size_t)bx * 8 * (size_t)sx;
        int any = 0;
        for (size_t y = 0; y < 8 * (size_t)sy && !any; y++)
          any = memchr(changed + (top + y) * width + left, 1, 8 * (size_t)sx) != NULL;
        if (!any) continue;
        touched[(size_t)(by / c->v) * (size_t)frame->mcus_x + (size_t)(bx / c->h)] = 1;
        block_samples(to, rgb + (top * width + left) * 3, width * 3, sx, sy, samples);
        quantise_block((const float(*)[8])samples, (const float(*)[8])cosines,
                       (const float(*)[8])turned, steps,
                       coefficients[i] + ((size_t)by * (size_t)c->blocks_w + (size_t)bx) * BLOCK);
      }
  }
}
