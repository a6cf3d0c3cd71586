import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { inTime } from '@lorasmith/concurrency';
import { bounded, closed, ErrorBody, type Fault, newIdentifier, ProductError, pathHint } from '@lorasmith/contracts';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
  type RawServerDefault,
} from 'fastify';
import { type Static, Type } from 'typebox';
import { endStalledBodies, isStillSent, lingerOnClose, trackUnusedConnections } from './connections.js';
import { answerBrokenHttp, answerError, answerExpectation, RefusalLog } from './error-answer.js';
import { addJsonParser, createRequestValidator } from './request-validation.js';

/** A Fastify application whose handlers are typed by the schemas of their routes. */
export type HttpApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface HttpAppOptions {
  logger: FastifyBaseLogger;
  /** Largest JSON body. @defaultValue 1 MiB */
  bodyLimitBytes?: number;
  /**
   * Limit for a complete request to arrive, including its body; 408 after it. An upload must fit into it.
   * @defaultValue 300,000
   */
  requestTimeoutMs?: number;
  /** Limit for a body of which nothing arrives; 408 after it. @defaultValue none */
  bodyStallMs?: number;
  /** The path of a request within the service. @defaultValue as it was sent */
  rewritePath?: (url: string) => string;
  /**
   * Answers errors that occur before a route is found, such as a path that cannot be decoded.
   * @defaultValue an `ErrorBody`
   */
  answerUnrouted?: typeof answerError;
}

/** The interval of Node's checks for slow senders: headers must arrive within its 60 s, a request within `requestTimeoutMs`. */
const SLOW_SENDER_CHECK_MS = 5_000;

/** A client's own request id appears in logs and answers, so only simple characters are accepted. */
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/**
 * The Fastify application that all services share. It validates bodies as sent and drops no field, answers every error as
 * an `ErrorBody` and logs it once, gives each request an id (`x-request-id`), and answers a wrong method with 405 instead
 * of 404. It neither listens nor reads the environment.
 */
export function createHttpApp(options: HttpAppOptions): HttpApp {
  const { logger, bodyLimitBytes = 1024 * 1024, requestTimeoutMs = 300_000, answerUnrouted = answerError } = options;
  const { rewritePath = (url: string) => url } = options;
  const app = fastify({
    loggerInstance: logger,
    bodyLimit: bodyLimitBytes,
    requestTimeout: requestTimeoutMs,
    genReqId: requestIdOf,
    rewriteUrl: ({ url = '/' }: IncomingMessage) => rewritePath(url),
    logController: new LogController({ requestIdLogLabel: 'request_id', disableRequestLogging: true }),
    routerOptions: { maxParamLength: 512 },
    // A missing host is refused below, with an ErrorBody.
    http: { requireHostHeader: false, connectionsCheckingInterval: SLOW_SENDER_CHECK_MS },
    frameworkErrors: answerUnrouted,
    clientErrorHandler: answerBrokenHttp,
  }).withTypeProvider<TypeBoxTypeProvider>();

  const refusals = new RefusalLog(logger);
  app.decorate('refusals', refusals);
  app.addHook('onClose', async () => refusals.close());
  app.setValidatorCompiler(createRequestValidator());
  // Response schemas are documentation, and tests compare answers with them. Compiled serializers would silently drop the
  // fields that are missing from a schema.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler(answerError);
  // A body is JSON unless the route says otherwise.
  app.removeAllContentTypeParsers();
  addJsonParser(app);
  app.server.on('checkExpectation', answerExpectation);

  const methods = new RouteMethods();
  app.addHook('onRoute', ({ url, method }) => methods.add(url, method));
  const refusePath = (request: FastifyRequest, reply: FastifyReply): never => {
    const [pathname = ''] = request.url.split('?', 1);
    const allowed = methods.allowedFor(pathname);
    // A route that serves files may not find one, although the method is correct.
    if (allowed.length > 0 && !allowed.includes(request.method)) {
      reply.header('allow', allowed.join(', '));
      throw new ProductError('method_not_allowed', `This path takes ${allowed.join(', ')}, not ${request.method}.`);
    }
    const hint = pathHint(pathname) ?? 'GET /openapi.json lists all paths.';
    throw new ProductError('not_found', `There is nothing at this path. ${hint}`);
  };
  app.setNotFoundHandler(refusePath);

  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    ignoreTypeOfEmptyBody(request);
    checkHost(request.raw);
  });
  app.addHook('preParsing', async (request, reply) => {
    // Before the content type is checked: uploads for the OpenAI API, for example, are forms.
    if (request.is404) refusePath(request, reply);
    refuseEncodedJson(request.headers);
  });
  let isClosing = false;
  const closeUnused = trackUnusedConnections(app.server);
  const endLingering = lingerOnClose(app.server);
  if (options.bodyStallMs !== undefined) endStalledBodies(app.server, options.bodyStallMs);
  app.addHook('preClose', async () => {
    isClosing = true;
    closeUnused();
    endLingering();
  });
  app.addHook('onSend', async (request, reply) => {
    if (isStillSent(request.raw)) reply.header('connection', 'close');
  });
  app.addHook('onResponse', async (request, reply) => {
    // A closing server closes only the connections that are idle at that moment. It would wait for the keep-alive timeout
    // of the others.
    if (isClosing) setImmediate(() => app.server.closeIdleConnections());
    request.log.debug(
      { method: request.method, url: request.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
      'request answered',
    );
  });
  return app as HttpApp;
}

/** Treats an empty body as none: `curl -d ''` sends the content type of a form. */
function ignoreTypeOfEmptyBody({ headers }: FastifyRequest): void {
  const { 'content-length': length = '0', 'transfer-encoding': encoding, 'content-type': type = '' } = headers;
  const isEmpty = length === '0' && encoding === undefined;
  if (isEmpty && type.startsWith('application/x-www-form-urlencoded')) delete headers['content-type'];
}

/** Another program between client and service may choose another one of several. @throws ProductError `invalid_request` */
function checkHost({ httpVersion, headers, rawHeaders }: IncomingMessage): void {
  const isMissing = httpVersion === '1.1' && headers.host === undefined;
  const count = rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === 'host').length;
  if (!isMissing && count <= 1) return;
  throw new ProductError('invalid_request', 'An HTTP/1.1 request must have the header host once (RFC 9112, 3.2).');
}

function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : newIdentifier('req');
}

/** Uploads check their encoding themselves, with a message of their own. */
function refuseEncodedJson({
  'content-type': type = '',
  'content-encoding': encoding = 'identity',
}: IncomingHttpHeaders) {
  if (encoding === 'identity' || !type.startsWith('application/json')) return;
  throw new ProductError('unsupported_media_type', 'Send the body uncompressed, without a content-encoding.');
}

/** The methods of each path, to distinguish a wrong method from a wrong path. */
class RouteMethods {
  readonly #routes: { path: RegExp; method: string }[] = [];

  /** @param url - Fastify's pattern: `:name` for one segment, `*` at the end for any rest. */
  add(url: string, methods: string | string[]): void {
    const source = url
      .replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&')
      .replaceAll(/:[A-Za-z0-9_]+/g, '[^/]+')
      .replace(/\*$/, '.*');
    for (const method of [methods].flat()) this.#routes.push({ path: new RegExp(`^${source}$`), method });
  }

  /** Methods of the routes that match a path, sorted; empty if no route matches. */
  allowedFor(pathname: string): string[] {
    const methods = this.#routes.filter(({ path }) => path.test(pathname)).map(({ method }) => method);
    return [...new Set(methods)].sort();
  }
}

/** Resolves if a dependency is available; otherwise rejects with the reason. */
export type ReadyCheck = () => Promise<unknown>;

export interface HealthRoutesOptions {
  /** Checks by their name in the answer of `/ready`, for instance `redis`. */
  checks: Readonly<Record<string, ReadyCheck>>;
}

const Health = Type.Object(
  { status: Type.Literal('ok'), checks: Type.Array(Type.String(), { description: 'What was checked.' }) },
  { $id: 'Health', ...closed },
);

const CHECK_TIMEOUT_MS = 2_500;

/** `/live`: the process answers. `/ready`: all its dependencies are available; otherwise 503 names the others. */
export async function healthRoutes(app: HttpApp, { checks }: HealthRoutesOptions): Promise<void> {
  const names = Object.keys(checks);
  const tags = ['health'];
  app.get(
    '/live',
    { schema: { operationId: 'getLive', summary: 'Whether the process runs', tags, response: { 200: Health } } },
    async (): Promise<Static<typeof Health>> => ({ status: 'ok', checks: [] }),
  );
  const response = { 200: Health, 503: ErrorBody };
  app.get(
    '/ready',
    { schema: { operationId: 'getReady', summary: 'Whether everything it needs is available', tags, response } },
    async (): Promise<Static<typeof Health>> => {
      const faults = (await Promise.all(names.map((name) => faultOf(name, checks[name]!)))).flat();
      if (faults.length === 0) return { status: 'ok', checks: names };
      const message = `Not ready: ${faults.map((fault) => fault.message).join(' ')}`;
      throw new ProductError('service_unavailable', message, { details: faults });
    },
  );
}

async function faultOf(name: string, check: ReadyCheck): Promise<Fault[]> {
  try {
    await inTime(check(), CHECK_TIMEOUT_MS, () => {
      throw new Error(`no answer within ${CHECK_TIMEOUT_MS} ms`);
    });
    return [];
  } catch (error) {
    const code = error instanceof ProductError ? error.code : 'service_unavailable';
    return [{ code, message: `${name}: ${(error as Error).message}`, param: name }];
  }
}

/**
 * The body of an upload as it arrives.
 *
 * @param what - The kind of body, for messages: file, tar
 * @throws ProductError `body_too_large` beyond `maxBytes`, `invalid_request` if the sender disconnects
 */
export async function* boundedChunks(stream: Readable, maxBytes: number, what: string): AsyncGenerator<Buffer> {
  try {
    // Destroying the request would close its connection before the answer is sent.
    yield* bounded(stream.iterator({ destroyOnReturn: false }), maxBytes, what);
  } catch (error) {
    if (error instanceof ProductError) throw error;
    throw uploadBroken(error);
  }
}

/** The sender disconnected. */
export function uploadBroken(cause?: unknown): ProductError {
  return new ProductError('invalid_request', 'The upload is incomplete: its sender disconnected.', { cause });
}
