/* Quantised blocks to RGB, number for number what libjpeg-turbo makes of them with its defaults:
 * the accurate integer IDCT (jidctint.c, after Loeffler, Ligtenberg and Moschytz 1989), "fancy"
 * upsampling (jdsample.c) and its fixed-point YCbCr -> RGB (jdcolor.c). */
#include <stdlib.h>
#include <string.h>

#include "core.h"

#define PASS1_BITS 2
#define CONST_BITS 13
#define FIX_0_298631336 2446
#define FIX_0_390180644 3196
#define FIX_0_541196100 4433
#define FIX_0_765366865 6270
#define FIX_0_899976223 7373
#define FIX_1_175875602 9633
#define FIX_1_501321110 12299
#define FIX_1_847759065 15137
#define FIX_1_961570560 16069
#define FIX_2_053119869 16819
#define FIX_2_562915447 20995
#define FIX_3_072711026 25172

static inline uint8_t clamp8(int32_t value) {
  return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static inline int32_t clamp16(int32_t value) {
  return value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value;
}

/* One dimension of eight lanes at once: in[k][lane] to out[k][lane], shifted down by `shift`.
 * Unsigned, because a damaged file may make the sums overflow. */
static inline void idct_lanes(const int32_t in[8][8], int32_t out[8][8], int shift) {
  const uint32_t half = 1u << (shift - 1);
  for (int i = 0; i < 8; i++) {
    uint32_t z2 = (uint32_t)in[2][i], z3 = (uint32_t)in[6][i];
    uint32_t z1 = (z2 + z3) * FIX_0_541196100;
    uint32_t even2 = z1 - z3 * FIX_1_847759065, even3 = z1 + z2 * FIX_0_765366865;
    uint32_t even0 = ((uint32_t)in[0][i] + (uint32_t)in[4][i]) << CONST_BITS;
    uint32_t even1 = ((uint32_t)in[0][i] - (uint32_t)in[4][i]) << CONST_BITS;
    uint32_t a0 = even0 + even3 + half, a3 = even0 - even3 + half;
    uint32_t a1 = even1 + even2 + half, a2 = even1 - even2 + half;
    uint32_t t0 = (uint32_t)in[7][i], t1 = (uint32_t)in[5][i];
    uint32_t t2 = (uint32_t)in[3][i], t3 = (uint32_t)in[1][i];
    uint32_t y1 = t0 + t3, y2 = t1 + t2, y3 = t0 + t2, y4 = t1 + t3;
    uint32_t y5 = (y3 + y4) * FIX_1_175875602;
    y1 = 0u - y1 * FIX_0_899976223;
    y2 = 0u - y2 * FIX_2_562915447;
    y3 = y5 - y3 * FIX_1_961570560;
    y4 = y5 - y4 * FIX_0_390180644;
    t0 = t0 * FIX_0_298631336 + y1 + y3;
    t1 = t1 * FIX_2_053119869 + y2 + y4;
    t2 = t2 * FIX_3_072711026 + y2 + y3;
    t3 = t3 * FIX_1_501321110 + y1 + y4;
    out[0][i] = (int32_t)(a0 + t3) >> shift;
    out[7][i] = (int32_t)(a0 - t3) >> shift;
    out[1][i] = (int32_t)(a1 + t2) >> shift;
    out[6][i] = (int32_t)(a1 - t2) >> shift;
    out[2][i] = (int32_t)(a2 + t1) >> shift;
    out[5][i] = (int32_t)(a2 - t1) >> shift;
    out[3][i] = (int32_t)(a3 + t0) >> shift;
    out[4][i] = (int32_t)(a3 - t0) >> shift;
  }
}

/* `quant` and `block` in zigzag order. A damaged file's sums are cut off at 16 bits. */
static void block_pixels(const int16_t block[BLOCK], const uint16_t quant[BLOCK], uint8_t *out,
                         size_t stride) {
  static const int16_t NOTHING[BLOCK];
  int32_t a[8][8], b[8][8];
  if (!memcmp(block + 1, NOTHING, (BLOCK - 1) * sizeof *block)) {
    int32_t flat = clamp16(clamp16(block[0] * (int32_t)quant[0]) * (1 << PASS1_BITS));
    int value = clamp8(((flat + (1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3)) + 128);
    for (int y = 0; y < 8; y++) memset(out + (size_t)y * stride, value, 8);
    return;
  }
  for (int k = 0; k < BLOCK; k++)
    a[ZIGZAG[k] >> 3][ZIGZAG[k] & 7] = clamp16(block[k] * (int32_t)quant[k]);
  idct_lanes((const int32_t(*)[8])a, b, CONST_BITS - PASS1_BITS);
  for (int y = 0; y < 8; y++)
    for (int x = 0; x < 8; x++) a[x][y] = clamp16(b[y][x]);
  idct_lanes((const int32_t(*)[8])a, b, CONST_BITS + PASS1_BITS + 3);
  for (int y = 0; y < 8; y++)
    for (int x = 0; x < 8; x++) out[(size_t)y * stride + (size_t)x] = clamp8(b[x][y] + 128);
}

/* ---- a component at full size, row by row --------------------------------------------------- */

typedef struct {
  uint8_t *samples;
  size_t stride;
  int width, height; /* what belongs to the picture; the rest pads whole MCUs */
  int sx, sy;        /* full-size pixels of a sample */
} samples_t;

/* Two samples across out of each, 3 : 1 between neighbours; `in` are sums of `unit` samples. */
static void widen_fancy(const int16_t *in, int width, int unit, uint8_t *out) {
  const int shift = unit == 4 ? 4 : 2, before = unit == 4 ? 8 : 1, after = unit == 4 ? 7 : 2;
  const int last = width - 1, one = unit == 4 ? 4 : 1;
  out[0] = (uint8_t)(unit == 4 ? (in[0] * 4 + 8) >> 4 : in[0] * one);
  out[1] = (uint8_t)((in[0] * 3 + in[1] + after) >> shift);
  for (int x = 1; x < last; x++) {
    out[2 * x] = (uint8_t)((in[x] * 3 + in[x - 1] + before) >> shift);
    out[2 * x + 1] = (uint8_t)((in[x] * 3 + in[x + 1] + after) >> shift);
  }
  out[2 * last] = (uint8_t)((in[last] * 3 + in[last - 1] + before) >> shift);
  out[2 * last + 1] = (uint8_t)(unit == 4 ? (in[last] * 4 + 7) >> 4 : in[last] * one);
}

/* Row y of the full-size picture. `sums` has room for a row of samples, `out` for whole MCUs. */
static void upsampled_row(const samples_t *s, int y, int16_t *sums, uint8_t *out) {
  const int row = y / s->sy, width = s->width;
  const uint8_t *here = s->samples + (size_t)row * s->stride;
  const int fancy_x = s->sx == 2 && s->sy <= 2 && width > 2;
  const int fancy_y = s->sy == 2 && (s->sx == 1 || fancy_x);
  const uint8_t *other = here;
  if (fancy_y) {
    int next = y & 1 ? row + 1 : row - 1;
    if (next >= 0 && next < s->height) other = s->samples + (size_t)next * s->stride;
  }
  if (fancy_x) {
    if (fancy_y)
      for (int x = 0; x < width; x++) sums[x] = (int16_t)(here[x] * 3 + other[x]);
    else
      for (int x = 0; x < width; x++) sums[x] = here[x];
    widen_fancy(sums, width, fancy_y ? 4 : 1, out);
  } else if (fancy_y) {
    const int bias = y & 1 ? 2 : 1;
    for (int x = 0; x < width; x++) out[x] = (uint8_t)((here[x] * 3 + other[x] + bias) >> 2);
  } else {
    for (int x = 0; x < width; x++) memset(out + (size_t)x * (size_t)s->sx, here[x], (size_t)s->sx);
  }
}

static void grey_row(const uint8_t *y, int width, uint8_t *rgb) {
  for (int x = 0; x < width; x++) rgb[3 * x] = rgb[3 * x + 1] = rgb[3 * x + 2] = y[x];
}

#define FIXED(x) ((int32_t)((x) * 65536 + 0.5))

static void colour_row(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, int width,
                       uint8_t *rgb) {
  for (int x = 0; x < width; x++) {
    const int32_t light = y[x], blue = cb[x] - 128, red = cr[x] - 128;
    rgb[3 * x] = clamp8(light + ((FIXED(1.40200) * red + 32768) >> 16));
    rgb[3 * x + 1] =
        clamp8(light + ((-FIXED(0.34414) * blue - FIXED(0.71414) * red + 32768) >> 16));
    rgb[3 * x + 2] = clamp8(light + ((FIXED(1.77200) * blue + 32768) >> 16));
  }
}

MORE_THAN_ONE_CPU
int inverse_transform(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK],
                      const int16_t *const coefficients[MAX_COMPONENTS], uint8_t *rgb) {
  const size_t full = (size_t)frame->mcus_x * 8 * (size_t)frame->h_max;
  samples_t parts[MAX_COMPONENTS];
  size_t room = full * (MAX_COMPONENTS + sizeof(int16_t));
  for (int i = 0; i < frame->components; i++)
    room += (size_t)frame->component[i].blocks_w * (size_t)frame->component[i].blocks_h * BLOCK;
  uint8_t *memory = malloc(room);
  if (!memory) return E_MEMORY;
  int16_t *sums = (int16_t *)memory;
  uint8_t *rows = memory + full * sizeof(int16_t), *samples = rows + full * MAX_COMPONENTS;
  for (int i = 0; i < frame->components; i++) {
    const component_t *c = &frame->component[i];
    const size_t stride = (size_t)c->blocks_w * 8;
    const int16_t *block = coefficients[i];
    parts[i] = (samples_t){samples, stride, (frame->width * c->h + frame->h_max - 1) / frame->h_max,
                           (frame->height * c->v + frame->v_max - 1) / frame->v_max,
                           frame->h_max / c->h, frame->v_max / c->v};
    for (int by = 0; by < c->blocks_h; by++)
      for (int bx = 0; bx < c->blocks_w; bx++, block += BLOCK)
        block_pixels(block, quant[i], samples + ((size_t)by * stride + (size_t)bx) * 8, stride);
    samples += stride * (size_t)c->blocks_h * 8;
  }
  for (int y = 0; y < frame->height; y++, rgb += (size_t)frame->width * 3) {
    const uint8_t *row[MAX_COMPONENTS] = {0};
    for (int i = 0; i < frame->components; i++) {
      row[i] = parts[i].samples + (size_t)y * parts[i].stride;
      if (parts[i].sx == 1 && parts[i].sy == 1) continue;
      upsampled_row(&parts[i], y, sums, rows + (size_t)i * full);
      row[i] = rows + (size_t)i * full;
    }
    if (frame->components == 1)
      grey_row(row[0], frame->width, rgb);
    else
      colour_row(row[0], row[1], row[2], frame->width, rgb);
  }
  free(memory);
  return E_OK;
}
