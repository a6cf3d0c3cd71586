/** A part of the library that changes a text before it is split. */
export interface LibraryNormalizer {
  config: { type?: unknown };
  /** The steps of a sequence; null for a step that does nothing. */
  normalizers?: (LibraryNormalizer | null)[];
  normalize(text: string): string;
}

const FORMS: ReadonlySet<unknown> = new Set(['NFC', 'NFD', 'NFKC', 'NFKD']);

/**
 * The characters that Unicode 12.1 to 17 normalizes, moves or joins. The reference is of Unicode 12.0 and leaves them as they are. A test compares all
 * characters of Node with digests of the reference's results, so those of a Unicode after 17 would be noticed.
 */
const NEWER = newerThan(
  '7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1add 1ae0-1aeb 1df6-1dfa 32ff a7f1-a7f4 a82c ab69 105c9 105d2 105da 105e4 ' +
    '10781-10785 10787-107b0 107b2-107ba 10d24-10d27 10d69-10d6d 10eab-10eac 10efa-10efb 10efd-10eff 10f46-10f50 10f82-10f85 11070 ' +
    '1133b 11382-11385 1138b 1138e 11390-11391 113b8 113bb 113c2 113c5 113c7-113c9 113ce-113d0 1145e 11839-1183a 11930 11935 11938 ' +
    '1193d-1193e 11943 119e0 11a34 11a47 11a99 11d42 11d44-11d45 11d97 11f41-11f42 1611e-16129 1612f 16d63 16d67-16d6a 16ff0-16ff1 ' +
    '1ccd6-1ccf9 1e030-1e06d 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5 1f16c ' +
    '1fbf0-1fbf9',
);

/** A correction of a normalizer: Node's Unicode is newer than that of the reference (the Rust crate), which would make other tokens. */
export function keepNewerCharacters(normalizer: LibraryNormalizer | null): void {
  if (normalizer === null) return;
  const { type } = normalizer.config;
  if (FORMS.has(type)) normalizer.normalize = (text) => normalized(text, type as string);
  for (const step of normalizer.normalizers ?? []) keepNewerCharacters(step);
}

/** The texts between newer characters, normalized each by itself: to the reference, such a character joins nothing. */
function normalized(text: string, form: string): string {
  if (text.search(NEWER) === -1) return text.normalize(form);
  return text
    .split(NEWER)
    .map((part, index) => (index % 2 === 0 ? part.normalize(form) : part))
    .join('');
}

function newerThan(ranges: string): RegExp {
  const classes = ranges.split(' ').map((range) => range.replace(/[0-9a-f]+/g, (code) => `\\u{${code}}`));
  return new RegExp(`([${classes.join('')}])`, 'u');
}
