/* Huffman tables: reading, optimal codes, and codes for symbols that a table lacks. */
#include <string.h>

#include "bits.h"
#include "core.h"

static void fill_lookup(huffman_t *table, int symbol, int code, int length) {
  if (length > LOOKUP_BITS) return;
  uint32_t entry = entry_make(symbol, length, table->is_dc);
  int shift = LOOKUP_BITS - length;
  for (int i = 0; i < 1 << shift; i++) {
    int at = (code << shift) + i;
    table->lookup[at] = entry;
    if (entry_size(entry) && entry_total(entry) <= LOOKUP_BITS)
      table->value[at] =
          (int16_t)value_after((uint64_t)at << (64 - LOOKUP_BITS), length, entry_size(entry));
  }
}

/* Where values do not matter, two symbols that fit into SKIP_BITS are passed at once.
 * Entry: bits 0-4 bits to drop, from bit 5 coefficients passed; 0 = look up singly. */
static void fill_skip(huffman_t *table) {
  for (uint32_t i = 0; i < 1u << SKIP_BITS; i++) {
    uint32_t first = table->lookup[i >> (SKIP_BITS - LOOKUP_BITS)];
    if (!first) continue;
    int total = entry_total(first), passed = entry_passed(first);
    if (passed < PASSED_END && total < SKIP_BITS) {
      uint32_t rest = i << total & ((1u << SKIP_BITS) - 1);
      uint32_t second = table->lookup[rest >> (SKIP_BITS - LOOKUP_BITS)];
      if (second && total + entry_length(second) <= SKIP_BITS &&
          total + entry_total(second) <= 31) {
        total += entry_total(second);
        passed += entry_passed(second);
      }
    }
    table->skip[i] = (uint16_t)(total | passed << 5);
  }
}

/* Canonical codes (T.81 annex C). Refuses tables that are over-full; `for_reading` also builds
 * the look-up tables. */
int huffman_load(huffman_t *table, const uint8_t spec[TABLE_SPEC_SIZE], int is_dc,
                 int for_reading) {
  int symbols = 0, code = 0;
  memset(table, 0, sizeof *table);
  table->is_dc = is_dc;
  for (int i = 0; i < 16; i++) symbols += spec[i];
  if (symbols == 0) return E_OK;
  if (symbols > 256) return E_CORRUPT;
  memcpy(table->counts + 1, spec, 16);
  memcpy(table->values, spec + 16, (size_t)symbols);
  for (int length = 1, k = 0; length <= 16; length++, code <<= 1) {
    table->value_offset[length] = k - code;
    for (int i = 0; i < table->counts[length]; i++, k++, code++) {
      int symbol = table->values[k];
      if (code >= 1 << length || (is_dc && symbol > 15)) return E_CORRUPT;
      table->code[symbol] = (uint16_t)code;
      table->length[symbol] = (uint8_t)length;
      if (for_reading) fill_lookup(table, symbol, code, length);
    }
    table->max_code[length] = table->counts[length] ? code - 1 : -1;
  }
  table->symbols = symbols;
  table->present = 1;
  if (for_reading && !is_dc) fill_skip(table);
  return E_OK;
}

/* The tables that the scan names, out of eight specs (DC 0-3, AC 0-3). A table that is named but
 * absent is an error where the scan's kind needs it. */
int tables_load(tables_t *tables, const uint8_t *specs, const scan_t *scan, int for_reading) {
  int needs_dc = scan->ss == 0 && scan->ah == 0, needs_ac = scan->se > 0;
  for (int i = 0; i < 4; i++) tables->dc[i].present = tables->ac[i].present = 0;
  for (int i = 0; i < scan->components; i++) {
    int d = scan->dc[i], a = scan->ac[i];
    if (needs_dc && !tables->dc[d].present) {
      int rc = huffman_load(&tables->dc[d], specs + d * TABLE_SPEC_SIZE, 1, for_reading);
      if (rc) return rc;
      if (!tables->dc[d].present) return E_CORRUPT;
    }
    if (needs_ac && !tables->ac[a].present) {
      int rc = huffman_load(&tables->ac[a], specs + (4 + a) * TABLE_SPEC_SIZE, 0, for_reading);
      if (rc) return rc;
      if (!tables->ac[a].present) return E_CORRUPT;
    }
  }
  return E_OK;
}

/* T.81 K.2 with the lengths beyond 16 moved up (figure K.3). A pseudo-symbol takes the code of
 * all ones, which must not be used. */
int huffman_optimal(uint8_t spec[TABLE_SPEC_SIZE], const uint32_t frequency[256]) {
  int symbol[257], size[257], next[257], counts[260], n = 0;
  uint64_t weight[257];
  memset(spec, 0, TABLE_SPEC_SIZE);
  for (int i = 0; i < 256; i++)
    if (frequency[i]) symbol[n] = i, weight[n++] = frequency[i];
  if (n == 0) return E_OK;
  symbol[n] = 256, weight[n++] = 1;
  for (int i = 0; i < n; i++) size[i] = 0, next[i] = -1;
  for (;;) { /* join the two lightest trees; among equals the highest index */
    int a = -1, b = -1;
    for (int i = 0; i < n; i++) {
      if (!weight[i]) continue;
      if (a < 0 || weight[i] <= weight[a]) b = a, a = i;
      else if (b < 0 || weight[i] <= weight[b]) b = i;
    }
    if (b < 0) break;
    weight[a] += weight[b];
    weight[b] = 0;
    int i = a;
    for (size[i]++; next[i] >= 0; size[i]++) i = next[i];
    next[i] = b;
    for (i = b, size[i]++; next[i] >= 0; size[i]++) i = next[i];
  }
  memset(counts, 0, sizeof counts);
  int longest = 0;
  for (int i = 0; i < n; i++) {
    counts[size[i]]++;
    if (size[i] > longest) longest = size[i];
  }
  for (int i = longest; i > 16; i--)
    while (counts[i] > 0) {
      int j = i - 2;
      while (j > 0 && !counts[j]) j--;
      if (j == 0) return E_RANGE;
      counts[i] -= 2, counts[i - 1]++, counts[j + 1] += 2, counts[j]--;
    }
  int last = longest < 16 ? longest : 16;
  while (!counts[last]) last--;
  counts[last]--; /* the pseudo-symbol */
  for (int i = 1; i <= 16; i++) spec[i - 1] = (uint8_t)counts[i];
  int k = 16;
  for (int length = 1; length <= longest; length++)
    for (int i = 0; i < n; i++)
      if (size[i] == length && symbol[i] < 256) spec[k++] = (uint8_t)symbol[i];
  return E_OK;
}

int huffman_extend(uint8_t spec[TABLE_SPEC_SIZE], const uint32_t frequency[256], int *appended) {
  uint8_t known[256] = {0};
  int symbols = 0, missing = 0;
  int64_t used = 0;
  for (int i = 0; i < 16; i++) {
    symbols += spec[i];
    used += (int64_t)spec[i] << (15 - i);
  }
  if (symbols > 256) return E_CORRUPT;
  for (int i = 0; i < symbols; i++) known[spec[16 + i]] = 1;
  for (int i = 0; i < 256; i++) missing += frequency[i] && !known[i];
  if (!missing) return E_OK;
  /* New codes of 16 bits come after all others; the last, all ones, stays free. */
  if (used + missing > 65535 || symbols + missing > 256 || spec[15] + missing > 255)
    return E_TABLE_FULL;
  for (int i = 0; i < 256; i++)
    if (frequency[i] && !known[i]) spec[16 + symbols++] = (uint8_t)i;
  spec[15] = (uint8_t)(spec[15] + missing);
  *appended += missing;
  return E_OK;
}

void sink_free(sink_t *sink) {
  free(sink->buffer);
  sink->buffer = NULL;
  sink->size = sink->capacity = 0;
}
