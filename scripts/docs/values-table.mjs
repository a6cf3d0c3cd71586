/**
 * The values of the chart as a table in Markdown.
 *
 * @param {Record<string, any>} schema of values.schema.json
 * @param {Record<string, any>} values of values.yaml
 * @returns {string}
 */
export function valuesTable(schema, values) {
  const rows = rowsOf(schema, values, '');
  return ['| Value | Default | What it does |', '| --- | --- | --- |', ...rows].join('\n');
}

/** @param {any} schema @param {any} value @param {string} name @returns {string[]} */
function rowsOf(schema, value, name) {
  // Settings have a page of their own, and what Kubernetes defines is described there.
  const isGroup = schema.type === 'object' && schema.description === '';
  if (!isGroup && schema.type !== 'array') return [row(schema, value, name)];
  if (schema.type === 'array') {
    const items = schema.items.description === '' ? rowsOf(schema.items, undefined, `${name}[]`) : [];
    return [row(schema, value, name), ...items];
  }
  return Object.entries(schema.properties)
    .filter(([key]) => key !== 'global')
    .flatMap(([key, of]) => rowsOf(of, value?.[key], name === '' ? key : `${name}.${key}`));
}

/** @param {any} schema @param {any} value @param {string} name */
function row({ description }, value, name) {
  const isEmpty = value === undefined || value === null || value === '' || JSON.stringify(value).length === 2;
  const shown = isEmpty ? '' : `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
  return `| \`${name}\` | ${shown.replaceAll('|', '\\|')} | ${description.replaceAll('|', '\\|')} |`;
}
