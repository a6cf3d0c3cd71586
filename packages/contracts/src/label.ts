import { Type } from 'typebox';

/**
 * Characters, as ranges of a regular expression, that change how a terminal or a page shows the text around them: control
 * characters, line and paragraph separators, marks of text direction.
 */
export const UNPRINTABLE = '\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069';

/**
 * Characters without ink, as ranges: blanks, soft hyphens, fillers, joiners, variation selectors. A name may have them, as Persian and
 * emoji do, but one of nothing else could not be seen or pressed.
 */
const INVISIBLE =
  '\\u0020\\u00a0\\u00ad\\u034f\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f\\u2028-\\u202f\\u205f-\\u206f' +
  '\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb';

/** The pattern of a {@link Label}: no unprintable character, and one that can be seen. */
export const LABEL_PATTERN = `^(?![${INVISIBLE}]*$)[^${UNPRINTABLE}]*$`;

/** A name that its user chooses, and that others may see in a list. */
export const Label = (maxLength: number, description?: string) =>
  Type.String({
    minLength: 1,
    maxLength,
    pattern: LABEL_PATTERN,
    ...(description === undefined ? {} : { description }),
  });

const label = new RegExp(LABEL_PATTERN, 'u');
const printable = new RegExp(`^[^${UNPRINTABLE}]*$`);

/** True if a text can be a {@link Label} of any length. */
export function isLabel(text: string): boolean {
  return label.test(text);
}

/** True if a text has none of the characters that a {@link Label} may not have. */
export function isPrintable(text: string): boolean {
  return printable.test(text);
}
