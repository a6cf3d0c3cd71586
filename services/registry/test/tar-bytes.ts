/** An entry of a tar with arbitrary values in its header. */
export interface RawEntry {
  name: string;
  content?: Uint8Array | string;
  /** The type flag. @defaultValue '0', a file */
  type?: string;
  /** The size in the header, if it differs from that of the content: a number, or the 12 bytes of the field. */
  size?: number | Buffer;
  link?: string;
  /** Makes the checksum wrong. */
  badChecksum?: boolean;
}

const BLOCK = 512;

/** A ustar archive, byte by byte, for archives that no tar program would write. */
export function tarOf(entries: readonly RawEntry[], { ended = true } = {}): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? '');
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK);
    return [headerOf(entry, content.length), content, padding];
  });
  return Buffer.concat([...blocks, ...(ended ? [Buffer.alloc(2 * BLOCK)] : [])]);
}

/** A pax header for the next entry. */
export function pax(records: Record<string, string>): RawEntry {
  const content = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length++;
    return `${length}${rest}`;
  });
  return { name: 'PaxHeader', type: 'x', content: content.join('') };
}

function headerOf({ name, type = '0', size, link = '', badChecksum }: RawEntry, contentBytes: number): Buffer {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, width: number) => `${value.toString(8).padStart(width - 1, '0')}\0`;
  header.write(name, 0, 100, 'latin1');
  header.write(octal(0o644, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  if (Buffer.isBuffer(size)) size.copy(header, 124, 0, 12);
  else header.write(octal(size ?? contentBytes, 12), 124);
  header.write(octal(0, 12), 136);
  header.write(type, 156);
  header.write(link, 157, 100, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0) + (badChecksum ? 1 : 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}
