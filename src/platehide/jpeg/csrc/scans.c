/* Any Huffman scan of T.81, sequential or progressive, from and to coefficients in memory.
 * Encoding follows T.81 G.1.2 with end-of-band runs, the way libjpeg writes it. */
#include <string.h>

#include "bits.h"
#include "core.h"

#define MAX_BAND_RUN 0x7FFF
#define MAX_CORRECTIONS 1000 /* correction bits held back for one end-of-band run */

/* ---- decoding ------------------------------------------------------------------------------------ */

static int in_range(int64_t value) { return value >= INT16_MIN && value <= INT16_MAX; }

static int decode_sequential(reader_t *r, const huffman_t *dc, const huffman_t *ac, int64_t *pred,
                             int16_t *block) {
  if (!reader_dc(r, dc, pred)) return 0;
  block[0] = (int16_t)*pred;
  for (int k = 1; k < BLOCK;) {
    uint32_t entry = reader_lookup(r, ac);
    if (!entry) return 0;
    int size = entry_size(entry);
    k += entry_passed(entry);
    if (size) {
      if (k > BLOCK) return 0;
      block[k - 1] = (int16_t)value_after(r->word, entry_length(entry), size);
    }
    reader_drop(r, entry_total(entry));
    if (!size && k > BLOCK && k < PASSED_END) return 0;
  }
  return 1;
}

static int decode_dc_first(reader_t *r, const huffman_t *dc, int64_t *pred, int al,
                           int16_t *block) {
  if (!reader_dc(r, dc, pred)) return 0;
  int64_t value = *pred * (1 << al);
  if (!in_range(value)) return 0;
  block[0] = (int16_t)value;
  return 1;
}

static int decode_ac_first(reader_t *r, const huffman_t *ac, const scan_t *scan, int *band_run,
                           int16_t *block) {
  if (*band_run > 0) {
    --*band_run;
    return 1;
  }
  for (int k = scan->ss; k <= scan->se;) {
    uint32_t entry = reader_lookup(r, ac);
    if (!entry) return 0;
    int size = entry_size(entry), run = entry_symbol(entry) >> 4;
    if (size) {
      k += run;
      if (k > scan->se) return 0;
      int64_t value = (int64_t)value_after(r->word, entry_length(entry), size) * (1 << scan->al);
      if (!in_range(value)) return 0;
      block[k++] = (int16_t)value;
      reader_drop(r, entry_total(entry));
    } else {
      reader_drop(r, entry_total(entry));
      if (run < 15) {
        *band_run = (1 << run) + reader_bits(r, run) - 1;
        return 1;
      }
      k += 16;
    }
  }
  return 1;
}

/* Refine a coefficient that is not zero yet by one bit. */
static void correct(reader_t *r, int16_t *value, int bit) {
  if (reader_bits(r, 1) && !(*value & bit)) {
    int changed = *value >= 0 ? *value + bit : *value - bit;
    if (in_range(changed)) *value = (int16_t)changed;
  }
}

static int decode_ac_refine(reader_t *r, const huffman_t *ac, const scan_t *scan, int *band_run,
                            int16_t *block) {
  const int bit = 1 << scan->al;
  int k = scan->ss;
  if (*band_run == 0) {
    while (k <= scan->se) {
      uint32_t entry = reader_lookup(r, ac);
      if (!entry) return 0;
      reader_drop(r, entry_length(entry));
      int run = entry_symbol(entry) >> 4, size = entry_symbol(entry) & 15, value = 0;
      if (size) {
        if (size != 1) return 0;
        value = reader_bits(r, 1) ? bit : -bit;
      } else if (run < 15) {
        *band_run = (1 << run) + reader_bits(r, run);
        break;
      }
      for (; k <= scan->se; k++) {
        if (block[k]) correct(r, &block[k], bit);
        else if (--run < 0) break;
      }
      if (value) {
        if (k > scan->se) return 0;
        block[k] = (int16_t)value;
      }
      k++;
    }
  }
  if (*band_run > 0) {
    for (; k <= scan->se; k++)
      if (block[k]) correct(r, &block[k], bit);
    --*band_run;
  }
  return 1;
}

static int decode_block(reader_t *r, const scan_t *scan, int progressive, const tables_t *tables,
                        int slot, int64_t *pred, int *band_run, int16_t *block) {
  const huffman_t *dc = &tables->dc[scan->dc[slot]], *ac = &tables->ac[scan->ac[slot]];
  if (!progressive) return decode_sequential(r, dc, ac, &pred[slot], block);
  if (scan->ss == 0) {
    if (scan->ah == 0) return decode_dc_first(r, dc, &pred[slot], scan->al, block);
    if (reader_bits(r, 1)) block[0] |= (int16_t)(1 << scan->al);
    return 1;
  }
  return scan->ah == 0 ? decode_ac_first(r, ac, scan, band_run, block)
                       : decode_ac_refine(r, ac, scan, band_run, block);
}

/* The block `b` of the scan's MCU (x, y) in the component's array. */
static size_t block_offset(const frame_t *frame, const scan_t *scan, int b, int x, int y) {
  const component_t *c = &frame->component[scan->index[scan->block[b].slot]];
  size_t by = (size_t)y, bx = (size_t)x;
  if (scan->components > 1) {
    by = by * (size_t)c->v + (size_t)scan->block[b].y;
    bx = bx * (size_t)c->h + (size_t)scan->block[b].x;
  }
  return (by * (size_t)c->blocks_w + bx) * BLOCK;
}

int decode_scan(const frame_t *frame, const scan_t *scan, int progressive, const tables_t *tables,
                const clean_t *clean, int16_t *const coefficients[MAX_COMPONENTS]) {
  reader_t r = {.bytes = clean->bytes};
  int64_t pred[MAX_COMPONENTS] = {0}, limit = 0, interval = -1, left = 0;
  int band_run = 0;
  for (int y = 0; y < scan->mcus_y; y++)
    for (int x = 0; x < scan->mcus_x; x++) {
      if (left == 0) {
        if (band_run || ++interval >= clean->interval_count) return E_CORRUPT;
        left = scan->interval ? scan->interval : INT64_MAX;
        limit = clean->intervals[interval].clean_end * 8;
        reader_seek(&r, clean->intervals[interval].clean_start * 8);
        memset(pred, 0, sizeof pred);
      }
      left--;
      for (int b = 0; b < scan->blocks; b++) {
        int slot = scan->block[b].slot;
        int16_t *block = coefficients[scan->index[slot]] + block_offset(frame, scan, b, x, y);
        if (!decode_block(&r, scan, progressive, tables, slot, pred, &band_run, block) ||
            r.position > limit)
          return E_CORRUPT;
      }
    }
  if (band_run || interval + 1 != clean->interval_count) return E_CORRUPT;
  return limit - r.position < 128 ? E_OK : E_CORRUPT;
}

/* ---- encoding ----------------------------------------------------------------------------------- */

typedef struct {
  sink_t *sink;
  int64_t pred[MAX_COMPONENTS];
  int band_run, corrections;
  uint8_t correction[MAX_CORRECTIONS];
} encoder_t;

static void put_bits_of(sink_t *sink, const uint8_t *bits, int count) {
  for (int i = 0; i < count; i++) sink_put(sink, bits[i], 1);
}

static void put_band_run(encoder_t *e, int table) {
  if (e->band_run == 0) return;
  int size = bit_length((unsigned)e->band_run) - 1;
  sink_symbol(e->sink, 1, table, size << 4);
  sink_put(e->sink, (uint32_t)e->band_run, size);
  e->band_run = 0;
  put_bits_of(e->sink, e->correction, e->corrections);
  e->corrections = 0;
}

static void put_value(sink_t *sink, int value, int size) {
  sink_put(sink, (uint32_t)(value < 0 ? value - 1 : value), size);
}

static int encode_dc(encoder_t *e, const scan_t *scan, int slot, int value) {
  int difference = (int)(value - e->pred[slot]);
  int size = bit_length((unsigned)(difference < 0 ? -difference : difference));
  if (size > 15) return E_RANGE;
  sink_symbol(e->sink, 0, scan->dc[slot], size);
  put_value(e->sink, difference, size);
  e->pred[slot] = value;
  return E_OK;
}

/* AC coefficients ss...se, first pass; sequential scans end each block on its own. */
static int encode_ac_first(encoder_t *e, const scan_t *scan, int progressive, int slot,
                           const int16_t *block) {
  const int table = scan->ac[slot];
  int run = 0;
  for (int k = progressive ? scan->ss : 1; k <= scan->se; k++) {
    int value = block[k], magnitude = (value < 0 ? -value : value) >> scan->al;
    if (!magnitude) {
      run++;
      continue;
    }
    put_band_run(e, table);
    for (; run > 15; run -= 16) sink_symbol(e->sink, 1, table, 0xF0);
    int size = bit_length((unsigned)magnitude);
    if (size > 15) return E_RANGE;
    sink_symbol(e->sink, 1, table, run << 4 | size);
    put_value(e->sink, value < 0 ? -magnitude : magnitude, size);
    run = 0;
  }
  if (!run) return E_OK;
  if (!progressive) sink_symbol(e->sink, 1, table, 0x00);
  else if (++e->band_run == MAX_BAND_RUN) put_band_run(e, table);
  return E_OK;
}

static void encode_ac_refine(encoder_t *e, const scan_t *scan, int slot, const int16_t *block) {
  const int table = scan->ac[slot];
  int magnitude[BLOCK], last_new = 0, run = 0, count = 0;
  /* Correction bits of this block queue up behind those of the pending run. */
  uint8_t *bits = e->correction + e->corrections;
  for (int k = scan->ss; k <= scan->se; k++) {
    magnitude[k] = (block[k] < 0 ? -block[k] : block[k]) >> scan->al;
    if (magnitude[k] == 1) last_new = k;
  }
  for (int k = scan->ss; k <= scan->se; k++) {
    if (!magnitude[k]) {
      run++;
      continue;
    }
    while (run > 15 && k <= last_new) {
      put_band_run(e, table);
      sink_symbol(e->sink, 1, table, 0xF0);
      run -= 16;
      put_bits_of(e->sink, bits, count);
      bits = e->correction;
      count = 0;
    }
    if (magnitude[k] > 1) {
      bits[count++] = (uint8_t)(magnitude[k] & 1);
      continue;
    }
    put_band_run(e, table);
    sink_symbol(e->sink, 1, table, run << 4 | 1);
    sink_put(e->sink, block[k] < 0 ? 0 : 1, 1);
    put_bits_of(e->sink, bits, count);
    bits = e->correction;
    count = run = 0;
  }
  if (run || count) {
    e->band_run++;
    e->corrections += count;
    if (e->band_run == MAX_BAND_RUN || e->corrections > MAX_CORRECTIONS - BLOCK + 1)
      put_band_run(e, table);
  }
}

static int encode_block(encoder_t *e, const scan_t *scan, int progressive, int slot,
                        const int16_t *block) {
  if (!progressive) {
    int rc = encode_dc(e, scan, slot, block[0]);
    return rc ? rc : encode_ac_first(e, scan, 0, slot, block);
  }
  if (scan->ss == 0) { /* the arithmetic shift of T.81 G.1.2.1, also of negative values */
    int value = block[0] >= 0 ? block[0] >> scan->al : ~(~block[0] >> scan->al);
    if (scan->ah == 0) return encode_dc(e, scan, slot, value);
    sink_put(e->sink, (uint32_t)value & 1, 1);
    return E_OK;
  }
  if (scan->ah == 0) return encode_ac_first(e, scan, 1, slot, block);
  encode_ac_refine(e, scan, slot, block);
  return E_OK;
}

int encode_scan(const frame_t *frame, const scan_t *scan, int progressive,
                const int16_t *const coefficients[MAX_COMPONENTS], sink_t *sink) {
  encoder_t e = {.sink = sink};
  int64_t left = scan->interval ? scan->interval : INT64_MAX;
  int marker = 0;
  for (int y = 0; y < scan->mcus_y; y++)
    for (int x = 0; x < scan->mcus_x; x++) {
      if (left == 0) {
        const uint8_t restart[2] = {0xFF, (uint8_t)(0xD0 + marker)};
        marker = (marker + 1) & 7;
        put_band_run(&e, scan->ac[0]);
        sink_align(sink);
        sink_raw(sink, restart, 2);
        memset(e.pred, 0, sizeof e.pred);
        left = scan->interval;
      }
      left--;
      for (int b = 0; b < scan->blocks; b++) {
        int slot = scan->block[b].slot;
        int rc = encode_block(&e, scan, progressive, slot,
                              coefficients[scan->index[slot]] + block_offset(frame, scan, b, x, y));
        if (rc) return rc;
      }
      if (sink->error) return sink->error;
    }
  put_band_run(&e, scan->ac[0]);
  sink_align(sink);
  return sink->error;
}
