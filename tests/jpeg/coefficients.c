/* Test helper, not shipped: print the coefficients of a JPEG as libjpeg reads them.
 * Output: int32 components; then for each int32 rows, columns and int16 blocks in natural order. */
#include <stdint.h>
#include <stdio.h>
#include <jpeglib.h>

int main(int argc, char **argv) {
  struct jpeg_decompress_struct c;
  struct jpeg_error_mgr e;
  FILE *in = argc > 1 ? fopen(argv[1], "rb") : NULL;
  if (!in) return 2;
  c.err = jpeg_std_error(&e);
  jpeg_create_decompress(&c);
  jpeg_stdio_src(&c, in);
  jpeg_read_header(&c, TRUE);
  jvirt_barray_ptr *arrays = jpeg_read_coefficients(&c);
  int32_t n = c.num_components;
  fwrite(&n, 4, 1, stdout);
  for (int i = 0; i < n; i++) {
    jpeg_component_info *p = &c.comp_info[i];
    int32_t size[2] = {(int32_t)p->height_in_blocks, (int32_t)p->width_in_blocks};
    fwrite(size, 4, 2, stdout);
    for (int y = 0; y < size[0]; y++) {
      JBLOCKARRAY row = c.mem->access_virt_barray((j_common_ptr)&c, arrays[i], (JDIMENSION)y, 1, FALSE);
      fwrite(row[0], sizeof(JBLOCK), (size_t)size[1], stdout);
    }
  }
  jpeg_finish_decompress(&c);
  return c.err->num_warnings ? 3 : 0;
}
