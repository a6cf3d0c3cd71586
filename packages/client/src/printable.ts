import { UNPRINTABLE } from '@lorasmith/contracts';

const unprintable = new RegExp(`[${UNPRINTABLE}]`, 'g');

/**
 * Text of others for a terminal, such as a name or the text of a model: without the characters that would change what else
 * is shown.
 */
export function printable(text: string): string {
  return text.replace(unprintable, (character) => (character === '\n' || character === '\t' ? character : ''));
}

/** JSON for a terminal: those characters are escaped. */
export function printableJson(value: unknown, indent?: number): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(value, undefined, indent).replace(unprintable, (one) => (one === '\n' ? one : escaped(one)));
}
