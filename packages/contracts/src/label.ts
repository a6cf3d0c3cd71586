import { Type } from 'typebox';

/**
 * Characters, as ranges of a regular expression, that change how a terminal or a page shows the text around them: control
 * characters, line and paragraph separators, marks of text direction.
 */
export const UNPRINTABLE = '\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069';

/** The pattern of a {@link Label}: none of these characters. */
export const LABEL_PATTERN = `^[^${UNPRINTABLE}]*$`;

/** A name that its user chooses, and that others may see in a list. */
export const Label = (maxLength: number, description?: string) =>
  Type.String({
    minLength: 1,
    maxLength,
    pattern: LABEL_PATTERN,
    ...(description === undefined ? {} : { description }),
  });

const label = new RegExp(LABEL_PATTERN);

/** Whether a text has none of the characters that a {@link Label} may not have. */
export function isPrintable(text: string): boolean {
  return label.test(text);
}
