/** JSON Schema or part of one. */
type Node = unknown;

/** Stands in a route's schema for a named one until the document is complete. */
const MARK = 'x-named-schema';

/**
 * Gives the schemas that have a name (`$id`) a place of their own in an OpenAPI document. @fastify/swagger does so only
 * for shared and for nested ones, and Fastify's shared schemas would have to be written as references everywhere.
 */
export class NamedSchemas {
  readonly #components = new Map<string, Node>();

  /** The same schema with a mark where a named one was. @throws Error when two different schemas have one name */
  marked(node: Node): Node {
    if (Array.isArray(node)) return node.map((item) => this.marked(item));
    if (typeof node !== 'object' || node === null) return node;
    const { $id: name, ...schema } = node as { $id?: unknown };
    const content = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, this.marked(value)]));
    // A property of that name is no name.
    if (typeof name !== 'string') return name === undefined ? content : { $id: this.marked(name), ...content };
    const known = this.#components.get(name);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(content)) {
      throw new Error(`OpenAPI: two different schemas are named ${name}`);
    }
    this.#components.set(name, content);
    return { [MARK]: name };
  }

  /** The document with its marks made references, and the schemas they are of. */
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
