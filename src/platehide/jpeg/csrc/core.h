/* Coefficient-exact editing of Huffman-coded JPEGs (ITU-T T.81), 8 bits, one or three components.
 *
 * Everything here is pure: functions read and write only the memory they are given, keep nothing
 * between calls and never trust a number that came out of a file. No Python in this header; the
 * bindings are module.c. Blocks are 64 int16 in zigzag order throughout.
 */
#ifndef PLATEHIDE_JPEG_CORE_H
#define PLATEHIDE_JPEG_CORE_H

#include <stddef.h>
#include <stdint.h>

#define MAX_COMPONENTS 3
#define MAX_BLOCKS_IN_MCU 10
#define MAX_FACTOR 4 /* of sampling */
#define BLOCK 64
#define TABLE_SPEC_SIZE 272 /* 16 counts of code lengths, 256 symbols (T.81 B.2.4.2) */
#define TABLE_COUNT 8       /* DC 0-3, AC 0-3 */
/* Readable bytes after the last bit of a cleaned scan. A block takes at most
 * 64 * (16 + 15) bits = 248 bytes and positions are checked after every block. */
#define SCAN_PAD 512

/* Where compiler and C library can choose at load time: a second copy for newer processors.
 * Include <stdlib.h> first. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && defined(__x86_64__) && \
    !defined(__SANITIZE_ADDRESS__)
#define MORE_THAN_ONE_CPU __attribute__((target_clones("avx2", "default"), flatten))
#else
#define MORE_THAN_ONE_CPU
#endif

enum {
  E_OK = 0,
  E_CORRUPT = -1,
  E_MEMORY = -2,
  E_ARGUMENT = -3,
  E_TABLE_FULL = -4,
  E_RANGE = -5
};

/* ---- frame and scan ---------------------------------------------------------------------- */

typedef struct {
  int h, v;               /* sampling factors */
  int blocks_w, blocks_h; /* stored blocks, whole MCUs */
  int coded_w, coded_h;   /* blocks coded in a scan of this component alone */
} component_t;

typedef struct {
  int width, height, components;
  int h_max, v_max;
  int mcus_x, mcus_y; /* of an interleaved scan of all components */
  component_t component[MAX_COMPONENTS];
} frame_t;

typedef struct {
  int components;
  int index[MAX_COMPONENTS]; /* component of the frame */
  int dc[MAX_COMPONENTS], ac[MAX_COMPONENTS];
  int ss, se, ah, al;
  int interval; /* MCUs between restart markers, 0 = none */
  /* derived */
  int mcus_x, mcus_y;
  int blocks; /* in one MCU */
  struct {
    int slot; /* position in the scan's component list */
    int x, y; /* block inside the MCU */
  } block[MAX_BLOCKS_IN_MCU];
} scan_t;

/* frame: width, height, components, then h, v of three components. */
#define FRAME_FIELDS 9
/* scan: components, then index, dc, ac of three, then ss, se, ah, al, interval. */
#define SCAN_FIELDS 15

int frame_from_fields(frame_t *frame, const int32_t fields[FRAME_FIELDS]);
int scan_from_fields(scan_t *scan, const frame_t *frame, const int32_t fields[SCAN_FIELDS]);

/* ---- cleaned scans ------------------------------------------------------------------------ */

/* One restart interval of a scan: bytes in the file and in the cleaned (un-stuffed) scan. */
typedef struct {
  int64_t raw_start, raw_end, clean_start, clean_end;
  int64_t end_bit; /* in the cleaned scan, filled by walk_scan */
} interval_t;

/* State at the first MCU of a row, filled by walk_scan. */
typedef struct {
  int64_t bit, interval, pred[MAX_COMPONENTS];
} checkpoint_t;

typedef struct {
  const uint8_t *bytes;
  int64_t size; /* without SCAN_PAD */
  interval_t *intervals;
  int64_t interval_count;
} clean_t;

int scan_extent(const uint8_t *data, int64_t size, int64_t start, int64_t *end,
                int64_t *clean_size, int64_t *interval_count);
void scan_clean(const uint8_t *data, int64_t start, int64_t end, uint8_t *out,
                interval_t *intervals);
/* Intervals ascend, lie inside the scan and are as many as frame and scan ask for. */
int clean_check(const clean_t *clean, const scan_t *scan);

/* ---- Huffman tables ------------------------------------------------------------------------- */

#define LOOKUP_BITS 10
#define SKIP_BITS 12

typedef struct {
  int present, symbols, is_dc;
  uint8_t counts[17];
  uint8_t values[256];
  int32_t max_code[17], value_offset[17];
  uint16_t code[256];
  uint8_t length[256]; /* 0 = the symbol has no code */
  uint32_t lookup[1 << LOOKUP_BITS];
  int16_t value[1 << LOOKUP_BITS]; /* of a code whose value bits are inside too, else 0 */
  uint16_t skip[1 << SKIP_BITS]; /* one or two symbols at once, values ignored; AC only */
} huffman_t;

typedef struct {
  huffman_t dc[4], ac[4];
} tables_t;

int huffman_load(huffman_t *table, const uint8_t spec[TABLE_SPEC_SIZE], int is_dc, int for_reading);
int tables_load(tables_t *tables, const uint8_t *specs, const scan_t *scan, int for_reading);
/* Shortest code for the given frequencies, no code longer than 16 bits and none all ones. */
int huffman_optimal(uint8_t spec[TABLE_SPEC_SIZE], const uint32_t frequency[256]);
/* Give every used symbol a code without changing the codes there are; < 0 where full. */
int huffman_extend(uint8_t spec[TABLE_SPEC_SIZE], const uint32_t frequency[256], int *appended);

/* ---- writing ------------------------------------------------------------------------------ */

/* Every encoder runs twice: into a sink that counts symbols, then into one that writes them. */
typedef struct {
  int writing;
  uint32_t dc_count[4][256], ac_count[4][256];
  const tables_t *tables;
  uint8_t *buffer;
  size_t size, capacity;
  uint64_t bits;
  int pending;
  int error;
} sink_t;

void sink_free(sink_t *sink);

/* ---- sequential scans of all components ------------------------------------------------------- */

typedef struct {
  uint8_t *pixels;
  int stride;
} plane_t;

/* Walk the whole scan once: checks it, fills checkpoints (one a row of MCUs) and end_bit, and,
 * where scale is 1, 2 or 4, a picture of that many pixels a block side in each plane. */
int walk_scan(const frame_t *frame, const scan_t *scan, const tables_t *tables, clean_t *clean,
              checkpoint_t *checkpoints, int scale, const uint16_t quant[MAX_COMPONENTS][BLOCK],
              const plane_t planes[MAX_COMPONENTS]);
/* Coefficients of the MCUs x0 <= x < x1, y0 <= y < y1, one array a component. */
int read_mcus(const frame_t *frame, const scan_t *scan, const tables_t *tables,
              const clean_t *clean, const checkpoint_t *checkpoints, int x0, int y0, int x1, int y1,
              int16_t *const out[MAX_COMPONENTS]);
/* Write the scan with the touched MCUs (ascending numbers) replaced; coefficients are
 * (count, blocks of an MCU, 64). Everything else keeps its bits. */
int splice_scan(const frame_t *frame, const scan_t *scan, const tables_t *tables,
                const clean_t *clean, const checkpoint_t *checkpoints, const uint8_t *data,
                int64_t data_size, const int32_t *touched, int64_t count,
                const int16_t *coefficients, sink_t *sink);

/* ---- any scan, all coefficients in memory -------------------------------------------------------- */

int decode_scan(const frame_t *frame, const scan_t *scan, int progressive, const tables_t *tables,
                const clean_t *clean, int16_t *const coefficients[MAX_COMPONENTS]);
int encode_scan(const frame_t *frame, const scan_t *scan, int progressive,
                const int16_t *const coefficients[MAX_COMPONENTS], sink_t *sink);

/* ---- transforms ---------------------------------------------------------------------------- */

/* RGB of whole MCUs -> quantised coefficients of the blocks with a changed pixel; touched gets a
 * 1 for each MCU with such a block. */
void forward_transform(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK],
                       const uint8_t *rgb, const uint8_t *changed,
                       int16_t *const coefficients[MAX_COMPONENTS], uint8_t *touched);
/* Quantised coefficients of whole MCUs -> RGB (height x width x 3), as libjpeg-turbo decodes the
 * picture that the frame describes; sampling factors must divide the largest ones. */
int inverse_transform(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK],
                      const int16_t *const coefficients[MAX_COMPONENTS], uint8_t *rgb);
/* The lowest frequencies of a block, placed as LOW_PLACE says (by scale / 2 and zigzag index), to
 * scale x scale pixels averaged by area. `low` has one more element for what is not used. */
extern const uint8_t LOW_PLACE[3][25];
void low_steps(const uint16_t quant[BLOCK], float steps[16]);
void low_pixels(const int16_t low[17], const float steps[16], int scale, uint8_t *out, int stride);
void flat_pixels(int dc, const float steps[16], int scale, uint8_t *out, int stride);
void reduced_planes(const frame_t *frame, const uint16_t quant[MAX_COMPONENTS][BLOCK], int scale,
                    const int16_t *const coefficients[MAX_COMPONENTS],
                    const plane_t planes[MAX_COMPONENTS]);

extern const uint8_t ZIGZAG[BLOCK]; /* zigzag index -> row * 8 + column */

#endif
