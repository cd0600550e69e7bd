/* Quantised blocks to RGB, number for number what libjpeg-turbo makes of them with its defaults:
 * the accurate integer IDCT (jidctint.c, after Loeffler, Ligtenberg and Moschytz 1989), "fancy"
 * upsampling (jdsample.c) and its fixed-point YCbCr -> RGB (jdcolor.c). */
#include <stdlib.h>
#include <string.h>

#include "core.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOW_BYTE_FIRST
#endif
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

static inline int32_t within8(int32_t value) { return value < 0 ? 0 : value > 255 ? 255 : value; }
static inline uint8_t clamp8(int32_t value) { return (uint8_t)within8(value); }

static inline int32_t clamp16(int32_t value) {
  return value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value;
}

/* What a transform works on: eight columns at once where the compiler knows vectors. Unsigned,
 * because a damaged file may make the sums overflow. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) && __has_builtin(__builtin_convertvector)
#define VECTORS
#endif
#endif
#ifdef VECTORS
typedef int16_t row_t __attribute__((vector_size(16)));
typedef uint16_t steps_t __attribute__((vector_size(16)));
typedef uint8_t pixels_t __attribute__((vector_size(8)));
typedef int32_t signed_t __attribute__((vector_size(32)));
typedef uint32_t lanes_t __attribute__((vector_size(32)));
#else
typedef int32_t signed_t;
typedef uint32_t lanes_t;
#endif

/* One dimension, in place, shifted down by `shift`. */
static inline void idct(lanes_t v[8], int shift) {
  const uint32_t half = 1u << (shift - 1);
  lanes_t z2 = v[2], z3 = v[6];
  lanes_t z1 = (z2 + z3) * FIX_0_541196100;
  lanes_t even2 = z1 - z3 * FIX_1_847759065, even3 = z1 + z2 * FIX_0_765366865;
  lanes_t even0 = ((v[0] + v[4]) << CONST_BITS) + half;
  lanes_t even1 = ((v[0] - v[4]) << CONST_BITS) + half;
  lanes_t a0 = even0 + even3, a3 = even0 - even3;
  lanes_t a1 = even1 + even2, a2 = even1 - even2;
  lanes_t t0 = v[7], t1 = v[5], t2 = v[3], t3 = v[1];
  lanes_t y1 = t0 + t3, y2 = t1 + t2, y3 = t0 + t2, y4 = t1 + t3;
  lanes_t y5 = (y3 + y4) * FIX_1_175875602;
  y1 = 0u - y1 * FIX_0_899976223;
  y2 = 0u - y2 * FIX_2_562915447;
  y3 = y5 - y3 * FIX_1_961570560;
  y4 = y5 - y4 * FIX_0_390180644;
  t0 = t0 * FIX_0_298631336 + y1 + y3;
  t1 = t1 * FIX_2_053119869 + y2 + y4;
  t2 = t2 * FIX_3_072711026 + y2 + y3;
  t3 = t3 * FIX_1_501321110 + y1 + y4;
  v[0] = (lanes_t)((signed_t)(a0 + t3) >> shift);
  v[7] = (lanes_t)((signed_t)(a0 - t3) >> shift);
  v[1] = (lanes_t)((signed_t)(a1 + t2) >> shift);
  v[6] = (lanes_t)((signed_t)(a1 - t2) >> shift);
  v[2] = (lanes_t)((signed_t)(a2 + t1) >> shift);
  v[5] = (lanes_t)((signed_t)(a2 - t1) >> shift);
  v[3] = (lanes_t)((signed_t)(a3 + t0) >> shift);
  v[4] = (lanes_t)((signed_t)(a3 - t0) >> shift);
}

/* The first `count` coefficients (a multiple of 8; the others are 0) to 8 x 8 samples. `quant` and
 * `block` in zigzag order. A damaged file's sums are cut off at 16 bits. */
#ifdef VECTORS
static inline void clamp_lanes(signed_t *v, int32_t low, int32_t high) {
  int32_t n[8];
  memcpy(n, v, sizeof n);
  for (int i = 0; i < 8; i++) n[i] = n[i] < low ? low : n[i];
  for (int i = 0; i < 8; i++) n[i] = n[i] > high ? high : n[i];
  memcpy(v, n, sizeof n);
}

/* Rows become columns: three perfect shuffles. */
static inline void turn(row_t a[8]) {
  for (int round = 0; round < 3; round++) {
    row_t b[8];
    for (int i = 0; i < 4; i++) {
      b[2 * i] = __builtin_shufflevector(a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    memcpy(a, b, sizeof b);
  }
}

static inline void block_idct(const int16_t block[BLOCK], const uint16_t quant[BLOCK], int count,
                              uint8_t *out, size_t stride) {
  int16_t placed[BLOCK] = {0}, values[8];
  for (int k = 0; k < count; k += 8) {
    row_t coded;
    steps_t steps;
    memcpy(&coded, block + k, sizeof coded);
    memcpy(&steps, quant + k, sizeof steps);
    signed_t v = __builtin_convertvector(coded, signed_t);
    v *= __builtin_convertvector(steps, signed_t);
    clamp_lanes(&v, INT16_MIN, INT16_MAX);
    coded = __builtin_convertvector(v, row_t);
    memcpy(values, &coded, sizeof values);
    for (int i = 0; i < 8; i++) placed[ZIGZAG[k + i]] = values[i];
  }
  row_t rows[8];
  lanes_t v[8];
  memcpy(rows, placed, sizeof rows);
  for (int pass = 0; pass < 2; pass++) { /* columns, then rows */
    for (int y = 0; y < 8; y++) v[y] = (lanes_t)__builtin_convertvector(rows[y], signed_t);
    idct(v, pass ? CONST_BITS + PASS1_BITS + 3 : CONST_BITS - PASS1_BITS);
    for (int y = 0; y < 8; y++) {
      signed_t sum = (signed_t)v[y];
      if (pass) sum += 128;
      clamp_lanes(&sum, pass ? 0 : INT16_MIN, pass ? 255 : INT16_MAX);
      rows[y] = __builtin_convertvector(sum, row_t);
    }
    turn(rows);
  }
  for (int y = 0; y < 8; y++) {
    pixels_t row = __builtin_convertvector(rows[y], pixels_t);
    memcpy(out + (size_t)y * stride, &row, sizeof row);
  }
}
#else
static inline void block_idct(const int16_t block[BLOCK], const uint16_t quant[BLOCK], int count,
                              uint8_t *out, size_t stride) {
  int32_t placed[BLOCK] = {0};
  lanes_t v[8];
  for (int k = 0; k < count; k++) placed[ZIGZAG[k]] = clamp16(block[k] * (int32_t)quant[k]);
  for (int x = 0; x < 8; x++) {
    for (int y = 0; y < 8; y++) v[y] = (lanes_t)placed[8 * y + x];
    idct(v, CONST_BITS - PASS1_BITS);
    for (int y = 0; y < 8; y++) placed[8 * y + x] = clamp16((int32_t)v[y]);
  }
  for (int y = 0; y < 8; y++) {
    for (int x = 0; x < 8; x++) v[x] = (lanes_t)placed[8 * y + x];
    idct(v, CONST_BITS + PASS1_BITS + 3);
    for (int x = 0; x < 8; x++) out[(size_t)y * stride + (size_t)x] = clamp8((int32_t)v[x] + 128);
  }
}
#endif

static inline void block_pixels(const int16_t block[BLOCK], const uint16_t quant[BLOCK],
                                uint8_t *out, size_t stride) {
  static const int16_t NOTHING[8];
  int count = BLOCK; /* most blocks end early */
  while (count > 8 && !memcmp(block + count - 8, NOTHING, sizeof NOTHING)) count -= 8;
  if (count > 8 || memcmp(block + 1, NOTHING, 7 * sizeof *block)) {
    block_idct(block, quant, count, out, stride);
    return;
  }
  int32_t flat = clamp16(clamp16(block[0] * (int32_t)quant[0]) * (1 << PASS1_BITS));
  int value = clamp8(((flat + (1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3)) + 128);
  for (int y = 0; y < 8; y++) memset(out + (size_t)y * stride, value, 8);
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
    const unsigned left = (unsigned)((in[x] * 3 + in[x - 1] + before) >> shift);
    const unsigned right = (unsigned)((in[x] * 3 + in[x + 1] + after) >> shift);
#ifdef LOW_BYTE_FIRST
    const uint16_t pair = (uint16_t)(left | right << 8); /* compilers put these in vectors */
    memcpy(out + 2 * x, &pair, sizeof pair);
#else
    out[2 * x] = (uint8_t)left;
    out[2 * x + 1] = (uint8_t)right;
#endif
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

/* `packed` has room for a row. */
static void colour_row(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, int width,
                       uint32_t *packed, uint8_t *rgb) {
  for (int x = 0; x < width; x++) {
    const int32_t light = y[x], blue = cb[x] - 128, red = cr[x] - 128;
    const int32_t r = within8(light + ((FIXED(1.40200) * red + 32768) >> 16));
    const int32_t g =
        within8(light + ((-FIXED(0.34414) * blue - FIXED(0.71414) * red + 32768) >> 16));
    const int32_t b = within8(light + ((FIXED(1.77200) * blue + 32768) >> 16));
    packed[x] = (uint32_t)(r | g << 8 | b << 16);
  }
  int x = 0;
#ifdef LOW_BYTE_FIRST
  /* Four bytes at once; the next pixel overwrites the fourth. */
  for (; x < width - 1; x++, rgb += 3) memcpy(rgb, packed + x, 4);
#endif
  for (; x < width; x++, rgb += 3)
    for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)(packed[x] >> 8 * c);
}

MORE_THAN_ONE_CPU
int inverse_transform(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK],
                      const int16_t *const coefficients[MAX_COMPONENTS], uint8_t *rgb) {
  const size_t full = (size_t)frame->mcus_x * 8 * (size_t)frame->h_max;
  samples_t parts[MAX_COMPONENTS];
  size_t room = full * (MAX_COMPONENTS + sizeof(int16_t) + sizeof(uint32_t));
  for (int i = 0; i < frame->components; i++)
    room += (size_t)frame->component[i].blocks_w * (size_t)frame->component[i].blocks_h * BLOCK;
  uint8_t *memory = malloc(room);
  if (!memory) return E_MEMORY;
  uint32_t *packed = (uint32_t *)memory;
  int16_t *sums = (int16_t *)(packed + full);
  uint8_t *rows = (uint8_t *)(sums + full), *samples = rows + full * MAX_COMPONENTS;
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
      colour_row(row[0], row[1], row[2], frame->width, packed, rgb);
  }
  free(memory);
  return E_OK;
}
