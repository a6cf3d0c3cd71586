/** Text of a user within a line of Markdown: no markup, no HTML, no line break. */
export function inlineText(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
    .replace(/[\\`*_{}[\]()#+!|~-]/g, '\\$&')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
}

/** An indented block of code: no line of it can end the block. */
export function codeBlock(lines: readonly string[]): string {
  return lines.map((line) => `    ${line.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, ' ')}`.trimEnd()).join('\n');
}

/** Fields and tags in YAML. A JSON string is one of YAML 1.2, in its double quotes. */
export function yamlFields(fields: Readonly<Record<string, string>>, tags: readonly string[]): string {
  const quoted = Object.entries(fields).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`);
  return `${quoted.join('')}tags:\n${tags.map((tag) => `- ${tag}\n`).join('')}`;
}
