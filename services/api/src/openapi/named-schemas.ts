/** A JSON Schema or a part of one. */
type Node = unknown;

/** Replaces a named schema until the document is complete. */
const MARK = 'x-named-schema';

/**
 * Moves schemas with a name (`$id`) into the components of an OpenAPI document. @fastify/swagger does so only for shared and
 * nested ones, and Fastify's shared schemas would have to be written as references everywhere.
 */
export class NamedSchemas {
  readonly #components = new Map<string, Node>();

  /** Replaces each named schema by a placeholder. @throws Error if two different schemas have the same name */
  marked(node: Node): Node {
    if (Array.isArray(node)) return node.map((item) => this.marked(item));
    if (typeof node !== 'object' || node === null) return node;
    const { $id: name, ...schema } = node as { $id?: unknown };
    const content = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, this.marked(value)]));
    // A property called $id is not a name.
    if (typeof name !== 'string') return name === undefined ? content : { $id: this.marked(name), ...content };
    const known = this.#components.get(name);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(content)) {
      throw new Error(`OpenAPI: two different schemas are named ${name}`);
    }
    this.#components.set(name, content);
    return { [MARK]: name };
  }

  /** Replaces the placeholders in a document by references, and adds the schemas. */
  completed<Document extends object>(document: Document): Document {
    const schemas = Object.fromEntries([...this.#components].sort(([one], [other]) => (one < other ? -1 : 1)));
    const components = { ...('components' in document ? (document.components as object) : {}), schemas };
    return withReferences({ ...document, components }) as Document;
  }
}

function withReferences(node: Node): Node {
  if (Array.isArray(node)) return node.map(withReferences);
  if (typeof node !== 'object' || node === null) return node;
  const name = (node as Record<string, unknown>)[MARK];
  if (typeof name === 'string') return { $ref: `#/components/schemas/${name}` };
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, withReferences(value)]));
}
