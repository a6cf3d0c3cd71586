import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import { type HttpApp, PRODUCT_VERSION } from '@lorasmith/service-kit';
import type { FastifySchema } from 'fastify';
import { accessOf } from '../access/access.js';
import { PAGE_HEADERS } from '../page-plugin.js';
import { type Answer, errorAnswers, errorDescription } from './answers.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The documented body of a route whose body is a stream, which no schema validates. */
    documentedBody?: { content: Answer['content'] };
  }
}

const DESCRIPTION = `Fine-tunes language models with LoRA: upload a dataset, queue a job, follow its events, download the adapter or the
merged model. Every error has the body \`ErrorBody\` with a stable code; under \`/v1\`, that of the OpenAI API. Unknown fields are refused.`;

/**
 * Collects the routes that are registered after it into an OpenAPI document, at `/openapi.json` and, to browse, `/docs`.
 *
 * @param publicPath - the path under which a proxy serves them; empty: none
 */
export async function registerOpenapi(app: HttpApp, publicPath: string): Promise<void> {
  const named = new NamedSchemas();
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Lorasmith',
        version: PRODUCT_VERSION,
        description: DESCRIPTION,
        license: { name: 'MIT', identifier: 'MIT' },
      },
      servers: [{ url: publicPath || '/', description: 'This host.' }],
      tags: [
        { name: 'datasets', description: 'Rows for training.' },
        { name: 'jobs', description: 'Training jobs.' },
        { name: 'sweeps', description: 'Jobs that differ in some fields, and which of them is the best.' },
        { name: 'adapters', description: 'The results of training.' },
        { name: 'models', description: 'The models that are trained.' },
        { name: 'openai', description: 'Text from base models and adapters, with the calls of the OpenAI API.' },
        { name: 'machines', description: 'What the workers train on.' },
        { name: 'keys', description: 'What the key of a request may do.' },
        { name: 'health', description: 'Health and metrics, for operators.' },
      ],
      components: {
        securitySchemes: {
          api_key: {
            type: 'http',
            scheme: 'bearer',
            description: 'An API key, `lsk_…`. A service without any key serves only its own machine.',
          },
        },
      },
      security: [{ api_key: [] }],
    },
    convertConstToEnum: false,
    transform: ({ schema, url, route }) => {
      const body = route.config?.documentedBody;
      const isOpen = accessOf(url, 'GET') === 'public';
      // Routes that all services share, such as /metrics, do not declare that this service needs a key.
      const response = isOpen ? schema?.response : { ...errorAnswers(503), ...(schema?.response as object) };
      const access = isOpen ? { security: [] } : {};
      return {
        schema: named.marked({
          ...schema,
          ...access,
          ...(schema?.response === undefined ? {} : { response }),
          ...(body === undefined ? {} : { body }),
        }) as FastifySchema,
        url,
      };
    },
    transformObject: (document) =>
      withSharedErrors(named.completed('openapiObject' in document ? document.openapiObject : {})),
  });
  await app.register(browsableDocument, { publicPath });
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
}

/** The page of Swagger UI. Its style is in its HTML; its scripts are files. */
async function browsableDocument(app: HttpApp, { publicPath }: { publicPath: string }): Promise<void> {
  const policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
  app.addHook('onSend', async (_request, reply) => {
    reply.headers({ ...PAGE_HEADERS, 'content-security-policy': policy });
  });
  // Without a last slash in the address, its files are named by their whole path.
  const at = publicPath === '' ? {} : { indexPrefix: publicPath };
  await app.register(swaggerUi, { routePrefix: '/docs', ...at, uiConfig: { docExpansion: 'list' } });
}

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

interface Reference {
  $ref: string;
}

interface Response {
  description: string;
  content?: Record<string, { schema?: Partial<Reference> }>;
}

interface Document {
  paths?: Record<string, Record<string, { responses?: Record<string, Response | Reference> }>>;
  components?: { responses?: Record<string, Response> };
}

/** Moves the answers with errors, which most calls have in common, into the components of a document: one for each status and form of the body. */
export function withSharedErrors<Given extends object>(document: Given): Given {
  const { paths = {}, components = {} } = document as Document;
  const shared: Record<string, Response> = {};
  const sharedOf = (status: string, response: Response | Reference): Response | Reference => {
    const body = '$ref' in response ? undefined : response.content?.['application/json']?.schema?.$ref;
    // One with a description of its own stays where it is.
    if (body === undefined || (response as Response).description !== errorDescription(status)) return response;
    const name = `${body.slice(body.lastIndexOf('/') + 1)}${status}`;
    shared[name] = response as Response;
    return { $ref: `#/components/responses/${name}` };
  };
  const mapped = mapValues(paths, (methods) =>
    mapValues(methods, ({ responses, ...operation }) =>
      responses === undefined
        ? operation
        : { ...operation, responses: mapValues(responses, (response, status) => sharedOf(status, response)) },
    ),
  );
  const responses = Object.fromEntries(Object.entries(shared).sort(([one], [other]) => (one < other ? -1 : 1)));
  return { ...document, paths: mapped, components: { ...components, responses } };
}

function mapValues<Value>(
  values: Record<string, Value>,
  map: (value: Value, key: string) => Value,
): Record<string, Value> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, map(value, key)]));
}
