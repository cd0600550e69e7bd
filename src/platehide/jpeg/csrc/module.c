/* Python bindings: buffers in, bytes out. Sizes are checked here, numbers in core. Nothing is kept
 * between calls, and the interpreter is released while the core works. */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <string.h>

#include "core.h"

typedef struct {
  frame_t frame;
  scan_t scan;
  tables_t *tables;
} context_t;

static PyObject *raise_code(int code) {
  switch (code) {
    case E_MEMORY:
      return PyErr_NoMemory();
    case E_ARGUMENT:
      PyErr_SetString(PyExc_ValueError, "the header's numbers do not fit together");
      break;
    case E_TABLE_FULL:
      PyErr_SetString(PyExc_ValueError, "a Huffman table has no room");
      break;
    case E_RANGE:
      PyErr_SetString(PyExc_ValueError, "a coefficient is out of range");
      break;
    default:
      PyErr_SetString(PyExc_ValueError, "the entropy-coded data is damaged");
  }
  return NULL;
}

static int wrong_size(const char *what) {
  PyErr_Format(PyExc_ValueError, "%s: wrong size", what);
  return 0;
}

static int load_frame(frame_t *frame, const Py_buffer *fields) {
  int32_t values[FRAME_FIELDS];
  if (fields->len != (Py_ssize_t)sizeof values) return wrong_size("frame");
  memcpy(values, fields->buf, sizeof values);
  int rc = frame_from_fields(frame, values);
  if (rc) raise_code(rc);
  return rc == E_OK;
}

static int load_scan(scan_t *scan, const frame_t *frame, const Py_buffer *fields, int progressive) {
  int32_t values[SCAN_FIELDS];
  if (fields->len != (Py_ssize_t)sizeof values) return wrong_size("scan");
  memcpy(values, fields->buf, sizeof values);
  int rc = scan_from_fields(scan, frame, values);
  if (!rc && !progressive && (scan->ss != 0 || scan->se != 63 || scan->ah || scan->al))
    rc = E_ARGUMENT;
  if (!rc && progressive) {
    if (scan->ss == 0 ? scan->se != 0 : scan->components != 1) rc = E_ARGUMENT;
    if (scan->ah && scan->ah != scan->al + 1) rc = E_ARGUMENT;
  }
  if (rc) raise_code(rc);
  return rc == E_OK;
}

/* Frame, scan and decoding tables; context->tables is freed by the caller. */
static int load_context(context_t *c, const Py_buffer *frame, const Py_buffer *scan,
                        const Py_buffer *tables, int progressive) {
  c->tables = NULL;
  if (!load_frame(&c->frame, frame) || !load_scan(&c->scan, &c->frame, scan, progressive))
    return 0;
  if (tables->len != TABLE_COUNT * TABLE_SPEC_SIZE) return wrong_size("tables");
  c->tables = PyMem_Calloc(1, sizeof *c->tables);
  if (!c->tables) {
    PyErr_NoMemory();
    return 0;
  }
  int rc = tables_load(c->tables, tables->buf, &c->scan, 1);
  if (rc) raise_code(rc);
  return rc == E_OK;
}

static int load_clean(clean_t *clean, const scan_t *scan, const Py_buffer *bytes,
                      const Py_buffer *intervals) {
  if (bytes->len < SCAN_PAD) return wrong_size("scan data");
  if (intervals->len < (Py_ssize_t)sizeof(interval_t) ||
      intervals->len % (Py_ssize_t)sizeof(interval_t) || (uintptr_t)intervals->buf % 8)
    return wrong_size("intervals");
  clean->bytes = bytes->buf;
  clean->size = bytes->len - SCAN_PAD;
  clean->intervals = intervals->buf;
  clean->interval_count = intervals->len / (Py_ssize_t)sizeof(interval_t);
  int rc = clean_check(clean, scan);
  if (rc) raise_code(rc);
  return rc == E_OK;
}

/* Pointers to one array of blocks a component; absent components may be empty. */
static int load_blocks(int16_t *out[MAX_COMPONENTS], const frame_t *frame,
                       const Py_buffer arrays[MAX_COMPONENTS]) {
  for (int i = 0; i < MAX_COMPONENTS; i++) {
    const component_t *c = &frame->component[i];
    out[i] = arrays[i].buf;
    if (i >= frame->components) continue;
    int64_t bytes = (int64_t)c->blocks_w * c->blocks_h * BLOCK * (int64_t)sizeof(int16_t);
    if (arrays[i].len != bytes || (uintptr_t)arrays[i].buf % 2) return wrong_size("coefficients");
  }
  return 1;
}

static int load_planes(plane_t out[MAX_COMPONENTS], const frame_t *frame, int scale,
                       const Py_buffer arrays[MAX_COMPONENTS]) {
  if (scale != 1 && scale != 2 && scale != 4) return wrong_size("scale");
  for (int i = 0; i < frame->components; i++) {
    const component_t *c = &frame->component[i];
    if (arrays[i].len != (int64_t)c->blocks_w * scale * c->blocks_h * scale)
      return wrong_size("plane");
    out[i].pixels = arrays[i].buf;
    out[i].stride = c->blocks_w * scale;
  }
  return 1;
}

static int load_quant(uint16_t out[MAX_COMPONENTS][BLOCK], const Py_buffer *quant) {
  if (quant->len != MAX_COMPONENTS * BLOCK * 2) return wrong_size("quantisation");
  memcpy(out, quant->buf, MAX_COMPONENTS * BLOCK * 2);
  return 1;
}

static void release(Py_buffer *buffers, int count) {
  for (int i = 0; i < count; i++) PyBuffer_Release(&buffers[i]);
}

static PyObject *none_or_error(int rc) {
  if (rc) return raise_code(rc);
  Py_RETURN_NONE;
}

/* ---- unstuff(data, start) -> (clean, intervals, end) ------------------------------------------------ */

static PyObject *py_unstuff(PyObject *self, PyObject *args) {
  Py_buffer data;
  Py_ssize_t start;
  PyObject *clean = NULL, *intervals = NULL, *result = NULL;
  (void)self;
  if (!PyArg_ParseTuple(args, "y*n", &data, &start)) return NULL;
  int64_t end = 0, size = 0, count = 0;
  int rc = start < 0 || start > data.len
               ? E_ARGUMENT
               : scan_extent(data.buf, data.len, start, &end, &size, &count);
  if (rc) {
    raise_code(rc);
    goto done;
  }
  clean = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size + SCAN_PAD);
  intervals = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * (int64_t)sizeof(interval_t)));
  interval_t *values = PyMem_Calloc((size_t)count, sizeof(interval_t));
  if (clean && intervals && values) {
    uint8_t *out = (uint8_t *)PyBytes_AsString(clean);
    scan_clean(data.buf, start, end, out, values);
    memset(out + size, 0, SCAN_PAD);
    memcpy(PyBytes_AsString(intervals), values, (size_t)count * sizeof(interval_t));
    result = Py_BuildValue("(OOL)", clean, intervals, (long long)end);
  } else if (!PyErr_Occurred()) {
    PyErr_NoMemory();
  }
  PyMem_Free(values);
done:
  Py_XDECREF(clean);
  Py_XDECREF(intervals);
  PyBuffer_Release(&data);
  return result;
}

/* ---- walk(frame, scan, tables, clean, intervals, checkpoints, scale, quant, p0, p1, p2) -------------- */

static int load_checkpoints(checkpoint_t **out, const scan_t *scan, const Py_buffer *buffer) {
  if (buffer->len != (int64_t)scan->mcus_y * (int64_t)sizeof(checkpoint_t) ||
      (uintptr_t)buffer->buf % 8)
    return wrong_size("checkpoints");
  *out = buffer->buf;
  return 1;
}

static int all_components(const context_t *c) {
  if (c->scan.components == c->frame.components) return 1;
  PyErr_SetString(PyExc_ValueError, "the scan does not hold all components");
  return 0;
}

static PyObject *py_walk(PyObject *self, PyObject *args) {
  Py_buffer b[10];
  int scale;
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*y*y*w*w*iy*w*w*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
                        &scale, &b[6], &b[7], &b[8], &b[9]))
    return NULL;
  PyObject *result = NULL;
  context_t c;
  clean_t clean;
  checkpoint_t *checkpoints;
  uint16_t quant[MAX_COMPONENTS][BLOCK];
  plane_t planes[MAX_COMPONENTS] = {{0}};
  if (load_context(&c, &b[0], &b[1], &b[2], 0) && all_components(&c) &&
      load_clean(&clean, &c.scan, &b[3], &b[4]) && load_checkpoints(&checkpoints, &c.scan, &b[5]) &&
      load_quant(quant, &b[6]) && (scale == 0 || load_planes(planes, &c.frame, scale, b + 7))) {
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = walk_scan(&c.frame, &c.scan, c.tables, &clean, checkpoints, scale,
                   (const uint16_t(*)[BLOCK])quant, planes);
    Py_END_ALLOW_THREADS
    result = none_or_error(rc);
  }
  PyMem_Free(c.tables);
  release(b, 10);
  return result;
}

/* ---- read(frame, scan, tables, clean, intervals, checkpoints, x0, y0, x1, y1, c0, c1, c2) ----------- */

static PyObject *py_read(PyObject *self, PyObject *args) {
  Py_buffer b[9];
  int x0, y0, x1, y1;
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*y*y*w*w*iiiiw*w*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
                        &x0, &y0, &x1, &y1, &b[6], &b[7], &b[8]))
    return NULL;
  PyObject *result = NULL;
  context_t c;
  clean_t clean;
  checkpoint_t *checkpoints;
  int16_t *out[MAX_COMPONENTS];
  if (load_context(&c, &b[0], &b[1], &b[2], 0) && all_components(&c) &&
      load_clean(&clean, &c.scan, &b[3], &b[4]) && load_checkpoints(&checkpoints, &c.scan, &b[5])) {
    if (x0 < 0 || y0 < 0 || x1 <= x0 || y1 <= y0 || x1 > c.frame.mcus_x || y1 > c.frame.mcus_y) {
      raise_code(E_ARGUMENT);
    } else {
      frame_t part = c.frame;
      for (int i = 0; i < part.components; i++) {
        part.component[i].blocks_w = (x1 - x0) * part.component[i].h;
        part.component[i].blocks_h = (y1 - y0) * part.component[i].v;
      }
      if (load_blocks(out, &part, b + 6)) {
        int rc;
        Py_BEGIN_ALLOW_THREADS
        rc = read_mcus(&c.frame, &c.scan, c.tables, &clean, checkpoints, x0, y0, x1, y1, out);
        Py_END_ALLOW_THREADS
        result = none_or_error(rc);
      }
    }
  }
  PyMem_Free(c.tables);
  release(b, 9);
  return result;
}

/* ---- two passes of an encoder -------------------------------------------------------------------- */

typedef int (*encode_fn)(void *work, sink_t *sink);
typedef int (*table_fn)(uint8_t *specs, const sink_t *counted, void *work);

/* Count symbols, make tables, write. Returns (specs, data) or NULL with an exception. */
static PyObject *encode_twice(encode_fn encode, table_fn make, void *work, const scan_t *scan,
                              uint8_t specs[TABLE_COUNT * TABLE_SPEC_SIZE]) {
  sink_t *sink = PyMem_Calloc(1, sizeof *sink);
  tables_t *tables = PyMem_Calloc(1, sizeof *tables);
  PyObject *result = NULL;
  int rc = sink && tables ? E_OK : E_MEMORY;
  Py_BEGIN_ALLOW_THREADS
  if (!rc) rc = encode(work, sink);
  if (!rc) rc = make(specs, sink, work);
  if (!rc) rc = tables_load(tables, specs, scan, 0);
  if (!rc) {
    sink->writing = 1;
    sink->tables = tables;
    rc = encode(work, sink);
  }
  Py_END_ALLOW_THREADS
  if (rc)
    raise_code(rc);
  else
    result = Py_BuildValue("(y#y#)", (char *)specs, (Py_ssize_t)(TABLE_COUNT * TABLE_SPEC_SIZE),
                           sink->size ? (char *)sink->buffer : "", (Py_ssize_t)sink->size);
  if (sink) sink_free(sink);
  PyMem_Free(sink);
  PyMem_Free(tables);
  return result;
}

/* ---- splice(frame, scan, tables, clean, intervals, checkpoints, data, touched, coefficients) --------- */
/* -> (tables, data), or None where a table has no room for a new symbol */

typedef struct {
  context_t c;
  clean_t clean;
  checkpoint_t *checkpoints;
  const Py_buffer *data, *touched, *coefficients;
  int full;
} splice_t;

static int run_splice(void *work, sink_t *sink) {
  splice_t *s = work;
  return splice_scan(&s->c.frame, &s->c.scan, s->c.tables, &s->clean, s->checkpoints, s->data->buf,
                     s->data->len, s->touched->buf, s->touched->len / 4, s->coefficients->buf,
                     sink);
}

static int extend_tables(uint8_t *specs, const sink_t *counted, void *work) {
  splice_t *s = work;
  int appended = 0;
  for (int i = 0; i < 4; i++) {
    int rc = huffman_extend(specs + i * TABLE_SPEC_SIZE, counted->dc_count[i], &appended);
    if (!rc) rc = huffman_extend(specs + (4 + i) * TABLE_SPEC_SIZE, counted->ac_count[i], &appended);
    if (rc) {
      s->full = rc == E_TABLE_FULL;
      return rc;
    }
  }
  return E_OK;
}

static PyObject *py_splice(PyObject *self, PyObject *args) {
  Py_buffer b[9];
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*y*y*w*w*y*y*y*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6],
                        &b[7], &b[8]))
    return NULL;
  PyObject *result = NULL;
  splice_t s = {.data = &b[6], .touched = &b[7], .coefficients = &b[8]};
  if (load_context(&s.c, &b[0], &b[1], &b[2], 0) && all_components(&s.c) &&
      load_clean(&s.clean, &s.c.scan, &b[3], &b[4]) &&
      load_checkpoints(&s.checkpoints, &s.c.scan, &b[5])) {
    int64_t count = b[7].len / 4;
    if (b[7].len % 4 || (uintptr_t)b[7].buf % 4 || (uintptr_t)b[8].buf % 2 ||
        b[8].len != count * s.c.scan.blocks * BLOCK * 2) {
      wrong_size("touched MCUs");
    } else {
      uint8_t specs[TABLE_COUNT * TABLE_SPEC_SIZE];
      memcpy(specs, b[2].buf, sizeof specs);
      result = encode_twice(run_splice, extend_tables, &s, &s.c.scan, specs);
      if (!result && s.full) {
        PyErr_Clear();
        Py_INCREF(Py_None);
        result = Py_None;
      }
    }
  }
  PyMem_Free(s.c.tables);
  release(b, 9);
  return result;
}

/* ---- decode_scan(frame, scan, tables, clean, intervals, progressive, c0, c1, c2) ---------------------- */

static PyObject *py_decode_scan(PyObject *self, PyObject *args) {
  Py_buffer b[8];
  int progressive;
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*y*y*w*pw*w*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &progressive,
                        &b[5], &b[6], &b[7]))
    return NULL;
  PyObject *result = NULL;
  context_t c;
  clean_t clean;
  int16_t *blocks[MAX_COMPONENTS];
  if (load_context(&c, &b[0], &b[1], &b[2], progressive) &&
      load_clean(&clean, &c.scan, &b[3], &b[4]) && load_blocks(blocks, &c.frame, b + 5)) {
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = decode_scan(&c.frame, &c.scan, progressive, c.tables, &clean, blocks);
    Py_END_ALLOW_THREADS
    result = none_or_error(rc);
  }
  PyMem_Free(c.tables);
  release(b, 8);
  return result;
}

/* ---- encode_scan(frame, scan, progressive, c0, c1, c2) -> (tables, data) ------------------------------ */

typedef struct {
  frame_t frame;
  scan_t scan;
  int progressive;
  int16_t *blocks[MAX_COMPONENTS];
} encode_t;

static int run_encode(void *work, sink_t *sink) {
  encode_t *e = work;
  const int16_t *blocks[MAX_COMPONENTS] = {e->blocks[0], e->blocks[1], e->blocks[2]};
  return encode_scan(&e->frame, &e->scan, e->progressive, blocks, sink);
}

static int optimal_tables(uint8_t *specs, const sink_t *counted, void *work) {
  encode_t *e = work;
  for (int i = 0; i < e->scan.components; i++) {
    /* A table must not be empty, even where a scan happens to need no symbol of it. */
    uint32_t dc[256], ac[256];
    memcpy(dc, counted->dc_count[e->scan.dc[i]], sizeof dc);
    memcpy(ac, counted->ac_count[e->scan.ac[i]], sizeof ac);
    dc[0]++, ac[0]++;
    int rc = huffman_optimal(specs + e->scan.dc[i] * TABLE_SPEC_SIZE, dc);
    if (!rc) rc = huffman_optimal(specs + (4 + e->scan.ac[i]) * TABLE_SPEC_SIZE, ac);
    if (rc) return rc;
  }
  return E_OK;
}

static PyObject *py_encode_scan(PyObject *self, PyObject *args) {
  Py_buffer b[5];
  encode_t e;
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*py*y*y*", &b[0], &b[1], &e.progressive, &b[2], &b[3], &b[4]))
    return NULL;
  PyObject *result = NULL;
  if (load_frame(&e.frame, &b[0]) && load_scan(&e.scan, &e.frame, &b[1], e.progressive) &&
      load_blocks(e.blocks, &e.frame, b + 2)) {
    uint8_t specs[TABLE_COUNT * TABLE_SPEC_SIZE] = {0};
    result = encode_twice(run_encode, optimal_tables, &e, &e.scan, specs);
  }
  release(b, 5);
  return result;
}

/* ---- forward(frame, quant, rgb, changed, c0, c1, c2, touched) ---------------------------------------- */

static PyObject *py_forward(PyObject *self, PyObject *args) {
  Py_buffer b[8];
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*y*y*w*w*w*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6],
                        &b[7]))
    return NULL;
  PyObject *result = NULL;
  frame_t frame;
  uint16_t quant[MAX_COMPONENTS][BLOCK];
  int16_t *blocks[MAX_COMPONENTS];
  if (load_frame(&frame, &b[0]) && load_quant(quant, &b[1]) && load_blocks(blocks, &frame, b + 4)) {
    int64_t mcus = (int64_t)frame.mcus_x * frame.mcus_y, zero = 0;
    int64_t pixels = mcus * 64 * frame.h_max * frame.v_max;
    for (int i = 0; i < frame.components; i++)
      for (int k = 0; k < BLOCK; k++) zero |= quant[i][k] == 0;
    if (b[2].len != pixels * 3 || b[3].len != pixels || b[7].len != mcus || zero) {
      wrong_size("pixels");
    } else {
      Py_BEGIN_ALLOW_THREADS
      forward_transform(&frame, (const uint16_t(*)[BLOCK])quant, b[2].buf, b[3].buf, blocks,
                        b[7].buf);
      Py_END_ALLOW_THREADS
      Py_INCREF(Py_None);
      result = Py_None;
    }
  }
  release(b, 8);
  return result;
}

/* ---- inverse(frame, quant, c0, c1, c2, rgb) ----------------------------------------------------------- */

static PyObject *py_inverse(PyObject *self, PyObject *args) {
  Py_buffer b[6];
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]))
    return NULL;
  PyObject *result = NULL;
  frame_t frame;
  uint16_t quant[MAX_COMPONENTS][BLOCK];
  int16_t *blocks[MAX_COMPONENTS];
  if (load_frame(&frame, &b[0]) && load_quant(quant, &b[1]) && load_blocks(blocks, &frame, b + 2)) {
    if (b[5].len != (int64_t)frame.width * frame.height * 3) {
      wrong_size("pixels");
    } else {
      const int16_t *in[MAX_COMPONENTS] = {blocks[0], blocks[1], blocks[2]};
      int rc;
      Py_BEGIN_ALLOW_THREADS
      rc = inverse_transform(&frame, (const uint16_t(*)[BLOCK])quant, in, b[5].buf);
      Py_END_ALLOW_THREADS
      if (rc) {
        raise_code(rc);
      } else {
        Py_INCREF(Py_None);
        result = Py_None;
      }
    }
  }
  release(b, 6);
  return result;
}

/* ---- reduce(frame, quant, scale, c0, c1, c2, p0, p1, p2) ---------------------------------------------- */

static PyObject *py_reduce(PyObject *self, PyObject *args) {
  Py_buffer b[8];
  int scale;
  (void)self;
  if (!PyArg_ParseTuple(args, "y*y*iy*y*y*w*w*w*", &b[0], &b[1], &scale, &b[2], &b[3], &b[4], &b[5],
                        &b[6], &b[7]))
    return NULL;
  PyObject *result = NULL;
  frame_t frame;
  uint16_t quant[MAX_COMPONENTS][BLOCK];
  int16_t *blocks[MAX_COMPONENTS];
  plane_t planes[MAX_COMPONENTS] = {{0}};
  if (load_frame(&frame, &b[0]) && load_quant(quant, &b[1]) && load_blocks(blocks, &frame, b + 2) &&
      load_planes(planes, &frame, scale, b + 5)) {
    const int16_t *in[MAX_COMPONENTS] = {blocks[0], blocks[1], blocks[2]};
    Py_BEGIN_ALLOW_THREADS
    reduced_planes(&frame, (const uint16_t(*)[BLOCK])quant, scale, in, planes);
    Py_END_ALLOW_THREADS
    Py_INCREF(Py_None);
    result = Py_None;
  }
  release(b, 8);
  return result;
}

static PyMethodDef METHODS[] = {
    {"unstuff", py_unstuff, METH_VARARGS, "unstuff(data, start) -> (clean, intervals, end)"},
    {"walk", py_walk, METH_VARARGS,
     "walk(frame, scan, tables, clean, intervals, checkpoints, scale, quant, p0, p1, p2)"},
    {"read", py_read, METH_VARARGS,
     "read(frame, scan, tables, clean, intervals, checkpoints, x0, y0, x1, y1, c0, c1, c2)"},
    {"splice", py_splice, METH_VARARGS,
     "splice(frame, scan, tables, clean, intervals, checkpoints, data, touched, coefficients)"
     " -> (tables, data) or None"},
    {"decode_scan", py_decode_scan, METH_VARARGS,
     "decode_scan(frame, scan, tables, clean, intervals, progressive, c0, c1, c2)"},
    {"encode_scan", py_encode_scan, METH_VARARGS,
     "encode_scan(frame, scan, progressive, c0, c1, c2) -> (tables, data)"},
    {"forward", py_forward, METH_VARARGS,
     "forward(frame, quant, rgb, changed, c0, c1, c2, touched)"},
    {"inverse", py_inverse, METH_VARARGS, "inverse(frame, quant, c0, c1, c2, rgb)"},
    {"reduce", py_reduce, METH_VARARGS, "reduce(frame, quant, scale, c0, c1, c2, p0, p1, p2)"},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "platehide.jpeg._native",
    .m_doc = "Coefficient-exact editing of JPEG scans; see platehide.jpeg.editor.",
    .m_methods = METHODS, .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&MODULE); }
