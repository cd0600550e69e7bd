/* Discrete cosine transforms: blocks to reduced pixels, RGB to quantised blocks. */
#include <math.h>
#include <string.h>

#include "core.h"

const uint8_t ZIGZAG[BLOCK] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

static inline uint8_t clamp8(float value) {
  return value <= 0.0f ? 0 : value >= 255.0f ? 255 : (uint8_t)(value + 0.5f);
}

/* Mean of the basis function cos((2x + 1) u pi / 16) over the pixels of a cell, with the DCT's
 * normalisation: sqrt(1/8) for u = 0, 1/2 else. Cells of 2 pixels (scale 4) and of 4 (scale 2);
 * the functions are odd or even, so half of the cells suffice. */
#define C0 0.35355339f
static const float HALF_MEANS[2] = {C0, 0.32036449f};
static const float QUARTER_MEANS[2][4] = {{C0, 0.45306372f, 0.32664074f, 0.15909483f},
                                          {C0, 0.18766514f, -0.32664074f, -0.38408888f}};

/* One column or row of four cells from four frequencies. */
static inline void four_cells(float f0, float f1, float f2, float f3, float out[4]) {
  float outer_even = f0 * C0 + f2 * QUARTER_MEANS[0][2];
  float outer_odd = f1 * QUARTER_MEANS[0][1] + f3 * QUARTER_MEANS[0][3];
  float inner_even = f0 * C0 + f2 * QUARTER_MEANS[1][2];
  float inner_odd = f1 * QUARTER_MEANS[1][1] + f3 * QUARTER_MEANS[1][3];
  out[0] = outer_even + outer_odd;
  out[1] = inner_even + inner_odd;
  out[2] = inner_even - inner_odd;
  out[3] = outer_even - outer_odd;
}

void block_pixels(const int16_t *block, const float *quant, int scale, uint8_t *out, int stride) {
  float mean = (float)block[0] * quant[0] * 0.125f + 128.0f;
  if (scale == 1) {
    out[0] = clamp8(mean);
    return;
  }
  if (scale == 2) {
    const float edge = C0 * HALF_MEANS[1], corner = HALF_MEANS[1] * HALF_MEANS[1];
    float x = (float)block[1] * quant[1] * edge, y = (float)block[2] * quant[2] * edge;
    float xy = (float)block[4] * quant[4] * corner;
    out[0] = clamp8(mean + x + y + xy);
    out[1] = clamp8(mean - x + y - xy);
    out[stride] = clamp8(mean + x - y - xy);
    out[stride + 1] = clamp8(mean - x - y + xy);
    return;
  }
  float rows[4][4], line[4];
#define F(k) ((float)block[k] * quant[k])
  /* columns: zigzag indices of (0..3, u) for u = 0..3 */
  four_cells(F(0), F(2), F(3), F(9), line);
  for (int i = 0; i < 4; i++) rows[i][0] = line[i];
  four_cells(F(1), F(4), F(8), F(11), line);
  for (int i = 0; i < 4; i++) rows[i][1] = line[i];
  four_cells(F(5), F(7), F(12), F(18), line);
  for (int i = 0; i < 4; i++) rows[i][2] = line[i];
  four_cells(F(6), F(13), F(17), F(24), line);
  for (int i = 0; i < 4; i++) rows[i][3] = line[i];
#undef F
  for (int i = 0; i < 4; i++) {
    four_cells(rows[i][0], rows[i][1], rows[i][2], rows[i][3], line);
    for (int j = 0; j < 4; j++) out[i * stride + j] = clamp8(line[j] + 128.0f);
  }
}

void reduced_planes(const frame_t *frame, const float quant[MAX_COMPONENTS][BLOCK], int scale,
                    const int16_t *const coefficients[MAX_COMPONENTS],
                    const plane_t planes[MAX_COMPONENTS]) {
  for (int i = 0; i < frame->components; i++) {
    const component_t *c = &frame->component[i];
    const int16_t *block = coefficients[i];
    for (int y = 0; y < c->blocks_h; y++) {
      uint8_t *row = planes[i].pixels + (size_t)y * (size_t)scale * (size_t)planes[i].stride;
      for (int x = 0; x < c->blocks_w; x++, block += BLOCK)
        block_pixels(block, quant[i], scale, row + (size_t)x * (size_t)scale, planes[i].stride);
    }
  }
}

/* ---- forward ------------------------------------------------------------------------------------ */

/* JFIF's YCbCr (ITU-R BT.601, full range), luma and chroma centred on 0. */
static const float TO_YCC[3][4] = {{0.299f, 0.587f, 0.114f, -128.0f},
                                   {-0.168735892f, -0.331264108f, 0.5f, 0.0f},
                                   {0.5f, -0.418687589f, -0.081312411f, 0.0f}};

static void quantise_block(float samples[8][8], float cosines[8][8], const uint16_t *quant,
                           int16_t *out) {
  float half[8][8];
  for (int u = 0; u < 8; u++)
    for (int x = 0; x < 8; x++) {
      float sum = 0;
      for (int y = 0; y < 8; y++) sum += cosines[u][y] * samples[y][x];
      half[u][x] = sum;
    }
  for (int k = 0; k < BLOCK; k++) {
    int u = ZIGZAG[k] >> 3, v = ZIGZAG[k] & 7;
    float sum = 0;
    for (int x = 0; x < 8; x++) sum += half[u][x] * cosines[v][x];
    long value = lrintf(sum / (float)quant[k]);
    /* Beyond these an 8-bit baseline decoder need not follow (T.81 table F.1, F.2). */
    long low = k ? -1023 : -1024;
    out[k] = (int16_t)(value < low ? low : value > 1023 ? 1023 : value);
  }
}

void forward_transform(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK],
                       const uint8_t *rgb, const uint8_t *changed,
                       int16_t *const coefficients[MAX_COMPONENTS], uint8_t *touched) {
  const size_t width = (size_t)frame->mcus_x * 8 * (size_t)frame->h_max;
  float cosines[8][8], samples[8][8];
  for (int u = 0; u < 8; u++)
    for (int x = 0; x < 8; x++)
      cosines[u][x] = (u ? 0.5f : C0) * cosf((float)((2 * x + 1) * u) * 3.14159265358979f / 16);
  memset(touched, 0, (size_t)frame->mcus_x * (size_t)frame->mcus_y);
  for (int i = 0; i < frame->components; i++) {
    const component_t *c = &frame->component[i];
    const int sx = frame->h_max / c->h, sy = frame->v_max / c->v;
    const float *to = TO_YCC[i];
    for (int by = 0; by < c->blocks_h; by++)
      for (int bx = 0; bx < c->blocks_w; bx++) {
        size_t top = (size_t)by * 8 * (size_t)sy, left = (size_t)bx * 8 * (size_t)sx;
        int any = 0;
        for (size_t y = 0; y < 8 * (size_t)sy && !any; y++)
          any = memchr(changed + (top + y) * width + left, 1, 8 * (size_t)sx) != NULL;
        if (!any) continue;
        touched[(size_t)(by / c->v) * (size_t)frame->mcus_x + (size_t)(bx / c->h)] = 1;
        for (int y = 0; y < 8; y++)
          for (int x = 0; x < 8; x++) {
            float sum = 0;
            for (int v = 0; v < sy; v++)
              for (int u = 0; u < sx; u++) {
                const uint8_t *p = rgb + ((top + (size_t)(y * sy + v)) * width + left +
                                          (size_t)(x * sx + u)) * 3;
                sum += to[0] * p[0] + to[1] * p[1] + to[2] * p[2] + to[3];
              }
            samples[y][x] = sum / (float)(sx * sy);
          }
        quantise_block(samples, cosines, quant[i],
                       coefficients[i] + ((size_t)by * (size_t)c->blocks_w + (size_t)bx) * BLOCK);
      }
  }
}
