/* Reading and writing of single bits. Inline: these are the hot loops. */
#ifndef PLATEHIDE_JPEG_BITS_H
#define PLATEHIDE_JPEG_BITS_H

#include <stdlib.h>
#include <string.h>

#include "core.h"

static inline uint64_t load_be64(const uint8_t *p) {
  return (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
         (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | (uint64_t)p[7];
}

/* A reader never looks at its end; the caller compares `position` after every block, which is
 * why a cleaned scan is followed by SCAN_PAD bytes. */
typedef struct {
  const uint8_t *bytes;
  int64_t position; /* next bit */
  uint64_t word;    /* the bits from `position`, left aligned */
  int have;         /* valid bits in `word` */
} reader_t;

static inline void reader_refill(reader_t *r) {
  if (r->have < 32) {
    r->word = load_be64(r->bytes + (r->position >> 3)) << (r->position & 7);
    r->have = 57;
  }
}

static inline void reader_seek(reader_t *r, int64_t position) {
  r->position = position;
  r->have = 0;
  reader_refill(r);
}

static inline void reader_drop(reader_t *r, int count) { /* count <= 32 */
  r->word <<= count;
  r->have -= count;
  r->position += count;
}

static inline int reader_bits(reader_t *r, int count) { /* count <= 16 */
  if (count == 0) return 0;
  reader_refill(r);
  int value = (int)(r->word >> (64 - count));
  reader_drop(r, count);
  return value;
}

/* ---- entries of huffman_t.lookup ------------------------------------------------------------- */
/* bits 0-4: code length + value bits; 5-8: value bits; 9-16: coefficients passed; 17-21: code
 * length; 22-29: the symbol. Never 0 for a valid code. */
#define PASSED_END 128 /* what an end-of-block passes */

static inline uint32_t entry_make(int symbol, int length, int is_dc) {
  int size = is_dc ? symbol : symbol & 15;
  int run = symbol >> 4;
  int passed = size ? run + 1 : (run == 15 ? 16 : PASSED_END);
  return (uint32_t)(length + size) | (uint32_t)size << 5 | (uint32_t)passed << 9 |
         (uint32_t)length << 17 | (uint32_t)symbol << 22;
}
static inline int entry_total(uint32_t e) { return (int)(e & 31); }
static inline int entry_size(uint32_t e) { return (int)(e >> 5 & 15); }
static inline int entry_passed(uint32_t e) { return (int)(e >> 9 & 255); }
static inline int entry_length(uint32_t e) { return (int)(e >> 17 & 31); }
static inline int entry_symbol(uint32_t e) { return (int)(e >> 22 & 255); }

static inline uint32_t lookup_long(const huffman_t *table, uint64_t word) {
  for (int length = LOOKUP_BITS + 1; length <= 16; length++) {
    int32_t code = (int32_t)(word >> (64 - length));
    if (code <= table->max_code[length]) {
      int index = table->value_offset[length] + code;
      if (index < 0 || index >= table->symbols) return 0;
      return entry_make(table->values[index], length, table->is_dc);
    }
  }
  return 0;
}

/* Entry of the next symbol, 0 where no code fits. The reader is not moved. */
static inline uint32_t reader_lookup(reader_t *r, const huffman_t *table) {
  reader_refill(r);
  uint32_t entry = table->lookup[r->word >> (64 - LOOKUP_BITS)];
  return entry ? entry : lookup_long(table, r->word);
}

/* Value of `size` > 0 bits that follow a code of `length` bits (T.81 F.2.2.1, EXTEND). */
static inline int value_after(uint64_t word, int length, int size) {
  int value = (int)((word << length) >> (64 - size));
  return value < (1 << (size - 1)) ? value - (1 << size) + 1 : value;
}

/* Difference of a DC coefficient, moved past; 0 where no code fits. */
static inline int reader_dc(reader_t *r, const huffman_t *table, int64_t *pred) {
  uint32_t entry = reader_lookup(r, table);
  if (!entry) return 0;
  int size = entry_size(entry);
  if (size) *pred += value_after(r->word, entry_length(entry), size);
  reader_drop(r, entry_total(entry));
  return *pred >= INT16_MIN && *pred <= INT16_MAX;
}

static inline int bit_length(unsigned value) {
  int n = 0;
#if defined(__GNUC__)
  if (value) n = 32 - __builtin_clz(value);
#else
  while (value) n++, value >>= 1;
#endif
  return n;
}

/* ---- sink ----------------------------------------------------------------------------------- */

/* Room for `extra` more bytes; false (and sink->error) where there is no memory. */
static inline int sink_reserve(sink_t *s, size_t extra) {
  if (s->capacity - s->size >= extra) return 1;
  if (s->error) return 0;
  size_t wanted = s->size + extra;
  size_t capacity = s->capacity * 2 > wanted ? s->capacity * 2 : wanted + 4096;
  uint8_t *grown = capacity > wanted ? realloc(s->buffer, capacity) : NULL;
  if (!grown) {
    s->error = E_MEMORY;
    return 0;
  }
  s->buffer = grown;
  s->capacity = capacity;
  return 1;
}

/* The upper 32 pending bits as bytes, each 0xFF followed by 0x00. Needs 8 reserved bytes. */
static inline void sink_word(sink_t *s) {
  uint32_t x = (uint32_t)(s->bits >> (s->pending - 32));
  uint8_t *o = s->buffer + s->size;
  s->pending -= 32;
  if (!(x & 0x80808080u & ~(x + 0x01010101u))) { /* surely no 0xFF among them */
    o[0] = (uint8_t)(x >> 24), o[1] = (uint8_t)(x >> 16), o[2] = (uint8_t)(x >> 8),
    o[3] = (uint8_t)x;
    s->size += 4;
    return;
  }
  size_t n = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    o[n++] = (uint8_t)(x >> shift);
    if (o[n - 1] == 0xFF) o[n++] = 0;
  }
  s->size += n;
}

/* Up to 32 bits; higher bits of value are ignored. */
static inline void sink_put(sink_t *s, uint32_t value, int count) {
  if (count == 0 || !s->writing) return;
  s->bits = s->bits << count | (value & (0xFFFFFFFFu >> (32 - count)));
  s->pending += count;
  if (s->pending >= 32 && sink_reserve(s, 8)) sink_word(s);
  if (s->error) s->pending = 0;
}

/* One symbol of table `id`; a symbol without a code is an error. */
static inline void sink_symbol(sink_t *s, int is_ac, int id, int symbol) {
  if (!s->writing) {
    uint32_t *count = is_ac ? s->ac_count[id] : s->dc_count[id];
    count[symbol]++;
    return;
  }
  const huffman_t *table = is_ac ? &s->tables->ac[id] : &s->tables->dc[id];
  if (!table->length[symbol]) {
    if (!s->error) s->error = E_TABLE_FULL;
    return;
  }
  sink_put(s, table->code[symbol], table->length[symbol]);
}

/* Fill the last byte with ones (T.81 F.1.2.3) and write it out. */
static inline void sink_align(sink_t *s) {
  if (!s->writing) return;
  if (s->pending & 7) sink_put(s, 0x7F, 8 - (s->pending & 7));
  if (!sink_reserve(s, 16)) return;
  while (s->pending > 0) {
    s->pending -= 8;
    uint8_t byte = (uint8_t)(s->bits >> s->pending);
    s->buffer[s->size++] = byte;
    if (byte == 0xFF) s->buffer[s->size++] = 0;
  }
}

/* Bytes as they are, at a byte boundary (after sink_align). */
static inline void sink_raw(sink_t *s, const uint8_t *bytes, size_t count) {
  if (!s->writing || count == 0 || !sink_reserve(s, count)) return;
  memcpy(s->buffer + s->size, bytes, count);
  s->size += count;
}

#endif
