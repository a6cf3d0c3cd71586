/** Characters that end a line somewhere, that are not shown, or that change the direction of the text behind them. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/** Text of a user within a line of Markdown: no markup, no link, no HTML, no line break. */
export function inlineText(text: string): string {
  return (
    text
      .replace(UNPRINTABLE, ' ')
      .replace(/ +/g, ' ')
      // Any of ASCII's punctuation may be escaped, and each of it is markup in some dialect.
      .replace(/[!-/:-@[-`{-~]/g, '\\$&')
      .replaceAll('\\&', '&amp;')
      .replaceAll('\\<', '&lt;')
      .replaceAll('\\>', '&gt;')
  );
}

/** An indented block of code: no line of it can end the block. */
export function codeBlock(lines: readonly string[]): string {
  return lines.map((line) => `    ${line.replace(UNPRINTABLE, ' ')}`.trimEnd()).join('\n');
}

/** Fields and tags in YAML. A JSON string is one of YAML 1.2, in its double quotes; YAML 1.1 has further line breaks. */
export function yamlFields(fields: Readonly<Record<string, string>>, tags: readonly string[]): string {
  const quoted = Object.entries(fields).map(([key, value]) => `${key}: ${yamlString(value)}\n`);
  return `${quoted.join('')}tags:\n${tags.map((tag) => `- ${tag}\n`).join('')}`;
}

function yamlString(text: string): string {
  return JSON.stringify(text).replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
