/* One interleaved sequential scan: walk it, read a part of it, replace a part of it. */
#include <string.h>

#include "bits.h"
#include "core.h"

/* Pass the AC coefficients from index k (T.81 F.2.2.2) without looking at their values. */
static inline int skip_ac(reader_t *r, const huffman_t *ac, int k) {
  /* Two symbols at once are safe while the first cannot complete the block. */
  while (k <= BLOCK - 17) {
    reader_refill(r);
    uint32_t entry = ac->skip[r->word >> (64 - SKIP_BITS)];
    if (entry) {
      reader_drop(r, (int)(entry & 31));
      k += (int)(entry >> 5);
    } else {
      uint32_t slow = lookup_long(ac, r->word);
      if (!slow) return 0;
      reader_drop(r, entry_total(slow));
      k += entry_passed(slow);
    }
  }
  while (k < BLOCK) {
    uint32_t entry = reader_lookup(r, ac);
    if (!entry) return 0;
    reader_drop(r, entry_total(entry));
    k += entry_passed(entry);
  }
  return k == BLOCK || k >= PASSED_END;
}

/* Value of the symbol that `entry` was just looked up for. */
static inline int entry_value(const reader_t *r, const huffman_t *table, uint32_t entry) {
  int value = table->value[r->word >> (64 - LOOKUP_BITS)];
  return value ? value : value_after(r->word, entry_length(entry), entry_size(entry));
}

/* Read coefficients 1...last of a zeroed block and pass the others. */
static inline int read_ac(reader_t *r, const huffman_t *ac, int16_t *block, int last) {
  int k = 1;
  while (k <= last) {
    uint32_t entry = reader_lookup(r, ac);
    if (!entry) return 0;
    int size = entry_size(entry);
    k += entry_passed(entry);
    if (size) {
      if (k > BLOCK) return 0;
      if (k <= last + 1) block[k - 1] = (int16_t)entry_value(r, ac, entry);
    }
    reader_drop(r, entry_total(entry));
  }
  if (k >= PASSED_END || k == BLOCK) return 1;
  return k < BLOCK && skip_ac(r, ac, k);
}

/* The same for a reduced picture: coefficients 1...last go where `place` says. Returns 2 where
 * there were any. */
static inline int read_low(reader_t *r, const huffman_t *ac, int16_t low[17], const uint8_t *place,
                           int last) {
  int k = 1, any = 1;
  while (k <= last) {
    uint32_t entry = reader_lookup(r, ac);
    if (!entry) return 0;
    k += entry_passed(entry);
    if (entry_size(entry) && k <= last + 1) {
      low[place[k - 1]] = (int16_t)entry_value(r, ac, entry);
      any = 2;
    }
    reader_drop(r, entry_total(entry));
  }
  if (k >= PASSED_END || k == BLOCK) return any;
  return k < BLOCK && skip_ac(r, ac, k) ? any : 0;
}

static inline int skip_block(reader_t *r, const scan_t *scan, const tables_t *tables, int slot,
                             int64_t *pred) {
  return reader_dc(r, &tables->dc[scan->dc[slot]], &pred[slot]) &&
         skip_ac(r, &tables->ac[scan->ac[slot]], 1);
}

static int skip_mcu(reader_t *r, const scan_t *scan, const tables_t *tables, int64_t *pred,
                    int64_t limit) {
  for (int b = 0; b < scan->blocks; b++)
    if (!skip_block(r, scan, tables, scan->block[b].slot, pred) || r->position > limit) return 0;
  return 1;
}

int walk_scan(const frame_t *frame, const scan_t *scan, const tables_t *tables, clean_t *clean,
              checkpoint_t *checkpoints, int scale, const uint16_t quant[MAX_COMPONENTS][BLOCK],
              const plane_t planes[MAX_COMPONENTS]) {
  /* Zigzag index of the last coefficient that a picture of that scale uses. */
  const int last = scale == 4 ? 24 : scale == 2 ? 4 : 0;
  const uint8_t *place = LOW_PLACE[scale >> 1];
  float steps[MAX_COMPONENTS][16];
  for (int i = 0; i < frame->components; i++) low_steps(quant[i], steps[i]);
  reader_t r = {.bytes = clean->bytes};
  int64_t pred[MAX_COMPONENTS] = {0}, limit = 0;
  int64_t interval = -1, left = 0;
  for (int y = 0; y < scan->mcus_y; y++) {
    for (int x = 0; x < scan->mcus_x; x++) {
      if (left == 0) {
        if (interval >= 0) clean->intervals[interval].end_bit = r.position;
        if (++interval >= clean->interval_count) return E_CORRUPT;
        left = scan->interval ? scan->interval : INT64_MAX;
        limit = clean->intervals[interval].clean_end * 8;
        reader_seek(&r, clean->intervals[interval].clean_start * 8);
        memset(pred, 0, sizeof pred);
      }
      left--;
      if (x == 0) {
        checkpoints[y].bit = r.position;
        checkpoints[y].interval = interval;
        memcpy(checkpoints[y].pred, pred, sizeof pred);
      }
      if (!scale) {
        if (!skip_mcu(&r, scan, tables, pred, limit)) return E_CORRUPT;
        continue;
      }
      for (int b = 0; b < scan->blocks; b++) {
        int slot = scan->block[b].slot, index = scan->index[slot];
        const component_t *c = &frame->component[index];
        int16_t low[17] = {0};
        if (!reader_dc(&r, &tables->dc[scan->dc[slot]], &pred[slot])) return E_CORRUPT;
        int found = read_low(&r, &tables->ac[scan->ac[slot]], low, place, last);
        if (!found || r.position > limit) return E_CORRUPT;
        size_t by = (size_t)y * (size_t)c->v + (size_t)scan->block[b].y;
        size_t bx = (size_t)x * (size_t)c->h + (size_t)scan->block[b].x;
        const plane_t *plane = &planes[index];
        uint8_t *out = plane->pixels + (by * (size_t)plane->stride + bx) * (size_t)scale;
        low[0] = (int16_t)pred[slot];
        if (found == 1)
          flat_pixels(low[0], steps[index], scale, out, plane->stride);
        else
          low_pixels(low, steps[index], scale, out, plane->stride);
      }
    }
  }
  clean->intervals[interval].end_bit = r.position;
  if (interval + 1 != clean->interval_count) return E_CORRUPT;
  /* More than padding after the last MCU of an interval: something was lost. Cameras may align
   * the end of the scan to 16 bytes. */
  for (int64_t i = 0; i < clean->interval_count; i++) {
    int64_t spare = clean->intervals[i].clean_end * 8 - clean->intervals[i].end_bit;
    if (spare >= (i == clean->interval_count - 1 ? 128 : 8)) return E_CORRUPT;
  }
  return E_OK;
}

/* A checkpoint comes back from the caller's memory; it must lie in the scan. */
static int checkpoint_valid(const checkpoint_t *p, const clean_t *clean) {
  for (int i = 0; i < MAX_COMPONENTS; i++)
    if (p->pred[i] < INT16_MIN || p->pred[i] > INT16_MAX) return 0;
  return p->interval >= 0 && p->interval < clean->interval_count && p->bit >= 0 &&
         p->bit <= clean->size * 8;
}

int read_mcus(const frame_t *frame, const scan_t *scan, const tables_t *tables,
              const clean_t *clean, const checkpoint_t *checkpoints, int x0, int y0, int x1, int y1,
              int16_t *const out[MAX_COMPONENTS]) {
  for (int y = y0; y < y1; y++) {
    const checkpoint_t *from = &checkpoints[y];
    if (!checkpoint_valid(from, clean)) return E_ARGUMENT;
    int64_t pred[MAX_COMPONENTS], interval = from->interval;
    int64_t limit = clean->intervals[interval].clean_end * 8;
    reader_t r = {.bytes = clean->bytes};
    reader_seek(&r, from->bit);
    memcpy(pred, from->pred, sizeof pred);
    for (int x = 0; x < x1; x++) {
      int64_t mcu = (int64_t)y * scan->mcus_x + x;
      if (scan->interval && x && mcu % scan->interval == 0) {
        if (++interval >= clean->interval_count) return E_CORRUPT;
        limit = clean->intervals[interval].clean_end * 8;
        reader_seek(&r, clean->intervals[interval].clean_start * 8);
        memset(pred, 0, sizeof pred);
      }
      if (x < x0) {
        if (!skip_mcu(&r, scan, tables, pred, limit)) return E_CORRUPT;
        continue;
      }
      for (int b = 0; b < scan->blocks; b++) {
        int slot = scan->block[b].slot, index = scan->index[slot];
        const component_t *c = &frame->component[index];
        size_t by = (size_t)(y - y0) * (size_t)c->v + (size_t)scan->block[b].y;
        size_t bx = (size_t)(x - x0) * (size_t)c->h + (size_t)scan->block[b].x;
        int16_t *block = out[index] + (by * (size_t)(x1 - x0) * (size_t)c->h + bx) * BLOCK;
        memset(block, 0, BLOCK * sizeof *block);
        if (!reader_dc(&r, &tables->dc[scan->dc[slot]], &pred[slot]) ||
            !read_ac(&r, &tables->ac[scan->ac[slot]], block, BLOCK - 1) || r.position > limit)
          return E_CORRUPT;
        block[0] = (int16_t)pred[slot];
      }
    }
  }
  return E_OK;
}

/* ---- splicing --------------------------------------------------------------------------------- */

/* 64 bits from a bit position; looks at nine bytes (SCAN_PAD). */
static inline uint64_t bits_at(const uint8_t *bytes, int64_t position) {
  const uint8_t *p = bytes + (position >> 3);
  int skip = (int)(position & 7);
  uint64_t word = load_be64(p);
  return skip ? word << skip | p[8] >> (8 - skip) : word;
}

static void copy_bits(sink_t *sink, const uint8_t *bytes, int64_t from, int64_t to) {
  if (!sink->writing) return;
  while (to - from >= 64 && sink_reserve(sink, 32)) {
    /* Eight bytes at once: as many bits stay pending as before. */
    uint64_t next = bits_at(bytes, from), x = next;
    if (sink->pending) x = sink->bits << (64 - sink->pending) | next >> sink->pending;
    if (x & 0x8080808080808080u & ~(x + 0x0101010101010101u)) { /* perhaps a 0xFF */
      sink_put(sink, (uint32_t)(next >> 32), 32);
      sink_put(sink, (uint32_t)next, 32);
    } else {
      uint8_t *out = sink->buffer + sink->size;
      for (int i = 0; i < 8; i++) out[i] = (uint8_t)(x >> (56 - 8 * i));
      sink->size += 8;
      sink->bits = next;
    }
    from += 64;
  }
  while (to - from >= 32) {
    sink_put(sink, (uint32_t)((load_be64(bytes + (from >> 3)) << (from & 7)) >> 32), 32);
    from += 32;
  }
  int rest = (int)(to - from);
  if (rest > 0)
    sink_put(sink, (uint32_t)((load_be64(bytes + (from >> 3)) << (from & 7)) >> (64 - rest)), rest);
}

static void put_value(sink_t *sink, int value, int size) {
  sink_put(sink, (uint32_t)(value < 0 ? value - 1 : value), size);
}

static int put_dc(sink_t *sink, int table, int64_t difference) {
  int value = (int)difference;
  int size = bit_length((unsigned)(value < 0 ? -value : value));
  if (size > 15) return E_RANGE;
  sink_symbol(sink, 0, table, size);
  put_value(sink, value, size);
  return E_OK;
}

static int put_ac(sink_t *sink, int table, const int16_t *block) {
  int run = 0;
  for (int k = 1; k < BLOCK; k++) {
    int value = block[k];
    if (!value) {
      run++;
      continue;
    }
    for (; run > 15; run -= 16) sink_symbol(sink, 1, table, 0xF0);
    int size = bit_length((unsigned)(value < 0 ? -value : value));
    if (size > 15) return E_RANGE;
    sink_symbol(sink, 1, table, run << 4 | size);
    put_value(sink, value, size);
    run = 0;
  }
  if (run) sink_symbol(sink, 1, table, 0x00);
  return E_OK;
}

/* The MCU after replaced ones: only the first DC difference of each component changes. */
static int splice_next_mcu(const scan_t *scan, const tables_t *tables, const clean_t *clean,
                           reader_t *r, int64_t *pred, const int64_t *new_pred, int64_t limit,
                           int64_t *copied, sink_t *sink) {
  int seen[MAX_COMPONENTS] = {0};
  for (int b = 0; b < scan->blocks; b++) {
    int slot = scan->block[b].slot;
    if (seen[slot]++) {
      if (!skip_block(r, scan, tables, slot, pred) || r->position > limit) return E_CORRUPT;
      continue;
    }
    copy_bits(sink, clean->bytes, *copied, r->position);
    if (!reader_dc(r, &tables->dc[scan->dc[slot]], &pred[slot])) return E_CORRUPT;
    *copied = r->position;
    int rc = put_dc(sink, scan->dc[slot], pred[slot] - new_pred[slot]);
    if (rc) return rc;
    if (!skip_ac(r, &tables->ac[scan->ac[slot]], 1) || r->position > limit) return E_CORRUPT;
  }
  return E_OK;
}

/* Rewrite one restart interval whose MCUs first <= m < end include touched[0..count). */
static int splice_interval(const scan_t *scan, const tables_t *tables, const clean_t *clean,
                           const checkpoint_t *checkpoints, int64_t interval, int64_t first,
                           int64_t end, const int32_t *touched, int64_t count,
                           const int16_t *coefficients, sink_t *sink) {
  const interval_t *v = &clean->intervals[interval];
  int64_t limit = v->clean_end * 8, copied = v->clean_start * 8, mcu = first;
  int64_t pred[MAX_COMPONENTS] = {0}, new_pred[MAX_COMPONENTS];
  reader_t r = {.bytes = clean->bytes};
  reader_seek(&r, copied);
  for (int64_t i = 0; i < count;) {
    int64_t row = touched[i] / scan->mcus_x, row_start = row * scan->mcus_x;
    const checkpoint_t *from = &checkpoints[row];
    if (row_start > mcu) { /* skip whole rows; mcu >= first, so the row starts in this interval */
      if (!checkpoint_valid(from, clean) || from->interval != interval || from->bit < r.position ||
          from->bit > limit)
        return E_ARGUMENT;
      reader_seek(&r, from->bit);
      memcpy(pred, from->pred, sizeof pred);
      mcu = row_start;
    }
    for (; mcu < touched[i]; mcu++)
      if (!skip_mcu(&r, scan, tables, pred, limit)) return E_CORRUPT;
    copy_bits(sink, clean->bytes, copied, r.position);
    memcpy(new_pred, pred, sizeof pred);
    for (; i < count && touched[i] == mcu; i++, mcu++) {
      const int16_t *block = coefficients + (size_t)i * (size_t)scan->blocks * BLOCK;
      for (int b = 0; b < scan->blocks; b++, block += BLOCK) {
        int slot = scan->block[b].slot;
        int rc = put_dc(sink, scan->dc[slot], block[0] - new_pred[slot]);
        if (!rc) rc = put_ac(sink, scan->ac[slot], block);
        if (rc) return rc;
        new_pred[slot] = block[0];
      }
      if (!skip_mcu(&r, scan, tables, pred, limit)) return E_CORRUPT;
    }
    copied = r.position;
    if (mcu < end && memcmp(pred, new_pred, sizeof pred)) {
      int rc = splice_next_mcu(scan, tables, clean, &r, pred, new_pred, limit, &copied, sink);
      if (rc) return rc;
      mcu++;
    }
  }
  if (v->end_bit < copied || v->end_bit > limit) return E_ARGUMENT;
  copy_bits(sink, clean->bytes, copied, v->end_bit);
  sink_align(sink);
  return E_OK;
}

int splice_scan(const frame_t *frame, const scan_t *scan, const tables_t *tables,
                const clean_t *clean, const checkpoint_t *checkpoints, const uint8_t *data,
                int64_t data_size, const int32_t *touched, int64_t count,
                const int16_t *coefficients, sink_t *sink) {
  int64_t mcus = (int64_t)frame->mcus_x * frame->mcus_y;
  int64_t length = scan->interval ? scan->interval : mcus;
  for (int64_t i = 0; i < count; i++)
    if (touched[i] < (i ? touched[i - 1] + 1 : 0) || touched[i] >= mcus) return E_ARGUMENT;
  int64_t done = clean->intervals[0].raw_start, at = 0;
  for (int64_t s = 0; s < clean->interval_count; s++) {
    const interval_t *v = &clean->intervals[s];
    if (v->raw_start < done || v->raw_end < v->raw_start || v->raw_end > data_size)
      return E_ARGUMENT;
    int64_t first = s * length, end = first + length < mcus ? first + length : mcus, from = at;
    while (at < count && touched[at] < end) at++;
    if (at == from) continue;
    sink_raw(sink, data + done, (size_t)(v->raw_start - done));
    int rc = splice_interval(scan, tables, clean, checkpoints, s, first, end, touched + from,
                             at - from, coefficients + (size_t)from * (size_t)scan->blocks * BLOCK,
                             sink);
    if (rc) return rc;
    done = v->raw_end;
  }
  sink_raw(sink, data + done, (size_t)(clean->intervals[clean->interval_count - 1].raw_end - done));
  return sink->error;
}
