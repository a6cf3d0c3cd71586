import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import { type HttpApp, PRODUCT_VERSION } from '@lorasmith/service-kit';
import type { FastifySchema } from 'fastify';
import { accessOf } from '../access/route-access.js';
import { PAGE_HEADERS } from '../page/page-plugin.js';
import { type Answer, errorAnswers } from './answers.js';
import { NamedSchemas } from './named-schemas.js';
import { withSharedErrors } from './shared-answers.js';

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
