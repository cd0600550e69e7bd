/* Frame, scan and restart intervals: all numbers of a file are checked here. */
#include <string.h>

#include "core.h"

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

int frame_from_fields(frame_t *frame, const int32_t fields[FRAME_FIELDS]) {
  memset(frame, 0, sizeof *frame);
  frame->width = fields[0];
  frame->height = fields[1];
  frame->components = fields[2];
  if (frame->width < 1 || frame->width > 65535 || frame->height < 1 || frame->height > 65535)
    return E_ARGUMENT;
  if (frame->components != 1 && frame->components != 3) return E_ARGUMENT;
  frame->h_max = frame->v_max = 1;
  for (int i = 0; i < frame->components; i++) {
    component_t *c = &frame->component[i];
    /* The only component of a scan is never subsampled (T.81 A.2.2). */
    c->h = frame->components == 1 ? 1 : fields[3 + 2 * i];
    c->v = frame->components == 1 ? 1 : fields[4 + 2 * i];
    if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4) return E_ARGUMENT;
    if (c->h > frame->h_max) frame->h_max = c->h;
    if (c->v > frame->v_max) frame->v_max = c->v;
  }
  frame->mcus_x = ceil_div(frame->width, 8 * frame->h_max);
  frame->mcus_y = ceil_div(frame->height, 8 * frame->v_max);
  for (int i = 0; i < frame->components; i++) {
    component_t *c = &frame->component[i];
    if (frame->h_max % c->h || frame->v_max % c->v) return E_ARGUMENT;
    c->blocks_w = frame->mcus_x * c->h;
    c->blocks_h = frame->mcus_y * c->v;
    c->coded_w = ceil_div(ceil_div(frame->width * c->h, frame->h_max), 8);
    c->coded_h = ceil_div(ceil_div(frame->height * c->v, frame->v_max), 8);
  }
  return E_OK;
}

int scan_from_fields(scan_t *scan, const frame_t *frame, const int32_t fields[SCAN_FIELDS]) {
  memset(scan, 0, sizeof *scan);
  scan->components = fields[0];
  if (scan->components < 1 || scan->components > frame->components) return E_ARGUMENT;
  for (int i = 0; i < scan->components; i++) {
    scan->index[i] = fields[1 + 3 * i];
    scan->dc[i] = fields[2 + 3 * i];
    scan->ac[i] = fields[3 + 3 * i];
    if (scan->index[i] < 0 || scan->index[i] >= frame->components) return E_ARGUMENT;
    if (i && scan->index[i] <= scan->index[i - 1]) return E_ARGUMENT;
    if (scan->dc[i] < 0 || scan->dc[i] > 3 || scan->ac[i] < 0 || scan->ac[i] > 3)
      return E_ARGUMENT;
  }
  scan->ss = fields[10], scan->se = fields[11], scan->ah = fields[12], scan->al = fields[13];
  scan->interval = fields[14];
  if (scan->ss < 0 || scan->se > 63 || scan->ss > scan->se) return E_ARGUMENT;
  if (scan->al < 0 || scan->al > 13 || scan->ah < 0 || scan->ah > 13) return E_ARGUMENT;
  if (scan->interval < 0 || scan->interval > 65535) return E_ARGUMENT;
  if (scan->components == 1) {
    const component_t *c = &frame->component[scan->index[0]];
    scan->mcus_x = c->coded_w;
    scan->mcus_y = c->coded_h;
    scan->blocks = 1;
    return E_OK;
  }
  scan->mcus_x = frame->mcus_x;
  scan->mcus_y = frame->mcus_y;
  for (int i = 0; i < scan->components; i++) {
    const component_t *c = &frame->component[scan->index[i]];
    for (int y = 0; y < c->v; y++)
      for (int x = 0; x < c->h; x++) {
        if (scan->blocks == MAX_BLOCKS_IN_MCU) return E_ARGUMENT;
        scan->block[scan->blocks].slot = i;
        scan->block[scan->blocks].x = x;
        scan->block[scan->blocks].y = y;
        scan->blocks++;
      }
  }
  return E_OK;
}

/* Where the entropy-coded data at `start` ends, what it comes to without stuffing and restart
 * markers, and how many restart intervals it has. */
int scan_extent(const uint8_t *data, int64_t size, int64_t start, int64_t *end,
                int64_t *clean_size, int64_t *interval_count) {
  int64_t p = start, removed = 0;
  *interval_count = 1;
  while (p < size) {
    const uint8_t *ff = memchr(data + p, 0xFF, (size_t)(size - p));
    if (!ff) return E_CORRUPT;
    int64_t at = ff - data, next = at + 1;
    while (next < size && data[next] == 0xFF) next++;
    if (next >= size) return E_CORRUPT;
    if (data[next] == 0) {
      if (next != at + 1) return E_CORRUPT; /* fill bytes before a stuffed zero */
      removed++;
    } else if (data[next] >= 0xD0 && data[next] <= 0xD7) {
      if ((data[next] & 7) != ((*interval_count - 1) & 7)) return E_CORRUPT;
      ++*interval_count;
      removed += next + 1 - at;
    } else {
      *end = at;
      *clean_size = at - start - removed;
      return E_OK;
    }
    p = next + 1;
  }
  return E_CORRUPT;
}

/* Copy without stuffing and markers; room as found by scan_extent. */
void scan_clean(const uint8_t *data, int64_t start, int64_t end, uint8_t *out,
                interval_t *intervals) {
  int64_t p = start, n = 0, k = 0;
  intervals[0].raw_start = start;
  intervals[0].clean_start = 0;
  while (p < end) {
    const uint8_t *ff = memchr(data + p, 0xFF, (size_t)(end - p));
    int64_t at = ff ? ff - data : end;
    memcpy(out + n, data + p, (size_t)(at - p));
    n += at - p;
    if (!ff) break;
    int64_t next = at + 1;
    while (next < end && data[next] == 0xFF) next++;
    if (next < end && data[next] == 0) {
      out[n++] = 0xFF;
    } else { /* a restart marker: scan_extent stopped at every other */
      intervals[k].raw_end = at;
      intervals[k].clean_end = n;
      k++;
      intervals[k].raw_start = next + 1;
      intervals[k].clean_start = n;
    }
    p = next + 1;
  }
  intervals[k].raw_end = end;
  intervals[k].clean_end = n;
}

int clean_check(const clean_t *clean, const scan_t *scan) {
  int64_t mcus = (int64_t)scan->mcus_x * scan->mcus_y;
  int64_t wanted = scan->interval ? (mcus + scan->interval - 1) / scan->interval : 1;
  if (clean->interval_count != wanted) return E_CORRUPT;
  int64_t at = 0;
  for (int64_t i = 0; i < wanted; i++) {
    const interval_t *v = &clean->intervals[i];
    if (v->clean_start != at || v->clean_end < at || v->clean_end > clean->size) return E_CORRUPT;
    at = v->clean_end;
  }
  return E_OK;
}
