import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { newIdentifier, ProductError, pathHint } from '@lorasmith/contracts';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
  type RawServerDefault,
} from 'fastify';
import { errorBody, productErrorOf } from './error-answer.js';
import { addJsonParser } from './json-body.js';
import { createRequestValidator } from './request-validation.js';
import { RouteMethods } from './route-methods.js';
import { trackUnusedConnections } from './unused-connections.js';

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
   * Time for a whole request to arrive, its body included; 408 after it. An upload must fit into it.
   * @defaultValue 300,000
   */
  requestTimeoutMs?: number;
}

/** Headers must arrive within Node's 60 s, a whole request within `requestTimeoutMs`; each at most this much later. */
const SLOW_SENDER_CHECK_MS = 5_000;

/** Where the error itself does not know better. */
const RETRY_AFTER_SECONDS: Partial<Record<number, number>> = { 429: 30, 503: 2 };

/** A caller's own id goes into logs and answers, so it is a plain word. */
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/**
 * A Fastify application as every service wants it: bodies checked as they are and nothing dropped, every error
 * answered as an `ErrorBody` and logged once, an id for each request (`x-request-id`), 405 told apart from 404.
 * It neither listens nor reads the environment.
 */
export function createHttpApp(options: HttpAppOptions): HttpApp {
  const { logger, bodyLimitBytes = 1024 * 1024, requestTimeoutMs = 300_000 } = options;
  const app = fastify({
    loggerInstance: logger,
    bodyLimit: bodyLimitBytes,
    requestTimeout: requestTimeoutMs,
    genReqId: requestIdOf,
    logController: new LogController({ requestIdLogLabel: 'request_id', disableRequestLogging: true }),
    routerOptions: { maxParamLength: 512 },
    // A missing host is refused below, with a body that says so; slow senders are looked for this often.
    http: { requireHostHeader: false, connectionsCheckingInterval: SLOW_SENDER_CHECK_MS },
    frameworkErrors: answerError,
    clientErrorHandler: answerBrokenHttp,
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.setValidatorCompiler(createRequestValidator());
  // Response schemas are the documentation, and the tests compare answers with them. Compiled serializers would drop
  // silently what a schema forgets.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler(answerError);
  // A body is JSON wherever a route does not say otherwise.
  app.removeAllContentTypeParsers();
  addJsonParser(app);
  app.server.on('checkExpectation', answerExpectation);

  const methods = new RouteMethods();
  app.addHook('onRoute', ({ url, method }) => methods.add(url, method));
  const refusePath = (request: FastifyRequest, reply: FastifyReply): never => {
    const [pathname = ''] = request.url.split('?', 1);
    const allowed = methods.allowedFor(pathname);
    // A route that looks for files may find none.
    if (allowed.length > 0 && !allowed.includes(request.method)) {
      reply.header('allow', allowed.join(', '));
      throw new ProductError('method_not_allowed', `This path takes ${allowed.join(', ')}, not ${request.method}.`);
    }
    const hint = pathHint(pathname) ?? 'GET /openapi.json lists what there is.';
    throw new ProductError('not_found', `There is nothing at this path. ${hint}`);
  };
  app.setNotFoundHandler(refusePath);

  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    forgetTypeOfNothing(request);
    if (request.raw.httpVersion === '1.1' && request.headers.host === undefined) {
      throw new ProductError('invalid_request', 'A request of HTTP/1.1 has a header host (RFC 9112, 3.2).');
    }
  });
  app.addHook('preParsing', async (request, reply) => {
    // Whatever type of body is sent there: files of the OpenAI API come as forms.
    if (request.is404) refusePath(request, reply);
    refuseEncodedJson(request.headers);
  });
  let isClosing = false;
  const closeUnused = trackUnusedConnections(app.server);
  app.addHook('preClose', async () => {
    isClosing = true;
    closeUnused();
  });
  app.addHook('onResponse', async (request, reply) => {
    // A closing server closes the connections that are idle then. One that was busy would be waited for until its
    // keep-alive time is over.
    if (isClosing) setImmediate(() => app.server.closeIdleConnections());
    request.log.debug(
      { method: request.method, url: request.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
      'request answered',
    );
  });
  return app as HttpApp;
}

/** An empty body counts as none: `curl -d ''` says that it is a form. */
function forgetTypeOfNothing({ headers }: FastifyRequest): void {
  const { 'content-length': length = '0', 'transfer-encoding': encoding, 'content-type': type = '' } = headers;
  const isEmpty = length === '0' && encoding === undefined;
  if (isEmpty && type.startsWith('application/x-www-form-urlencoded')) delete headers['content-type'];
}

function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : newIdentifier('req');
}

/** Uploads look for themselves, and read on for a while. */
function refuseEncodedJson({
  'content-type': type = '',
  'content-encoding': encoding = 'identity',
}: IncomingHttpHeaders) {
  if (encoding === 'identity' || !type.startsWith('application/json')) return;
  throw new ProductError('unsupported_media_type', 'Send the body as it is, without a content-encoding.');
}

/** The one place where an error becomes HTTP. */
function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = productErrorOf(thrown, request);
  const where = { method: request.method, url: request.url, status: error.status, code: error.code };
  const body = errorBody(error, request.id);
  if (error.status >= 500) request.log.error({ ...where, err: thrown }, body.error.message);
  else request.log.info(where, body.error.message);
  // Nothing more can be said once the head is out: an answer cut short must not look whole.
  if (reply.raw.headersSent) {
    reply.raw.destroy();
    return;
  }
  const retryAfterSeconds = error.retryAfterSeconds ?? RETRY_AFTER_SECONDS[error.status];
  if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds));
  // RFC 6750, section 3.
  if (error.status === 401) reply.header('www-authenticate', 'Bearer');
  reply.code(error.status).header('x-request-id', request.id).type('application/json; charset=utf-8').send(body);
}

function answerExpectation(_request: IncomingMessage, response: ServerResponse): void {
  const message = 'The header expect may only say 100-continue.';
  const body = JSON.stringify(errorBody(new ProductError('invalid_request', message), null));
  response.writeHead(417, { 'content-type': 'application/json; charset=utf-8', connection: 'close' }).end(body);
}

/** Bytes that are no HTTP request, or one that came too slowly: there is no request to answer, only a socket. */
function answerBrokenHttp(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, code, message] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? (['408 Request Timeout', 'timeout', 'The request did not arrive in time.'] as const)
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? (['431 Request Header Fields Too Large', 'invalid_request', 'The headers are too large.'] as const)
        : (['400 Bad Request', 'invalid_request', 'This is not an HTTP request.'] as const);
  const body = JSON.stringify(errorBody(new ProductError(code, message), null));
  socket.end(
    `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
