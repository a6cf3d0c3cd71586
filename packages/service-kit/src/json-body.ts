import { ProductError } from '@lorasmith/contracts';
import type { FastifyInstance } from 'fastify';

/** How much of the parser's message is told; it shows some ten characters before and after the fault. */
const MAX_REASON = 200;

/** Bodies that are JSON. An empty one, which many clients send where they have nothing to say, counts as none. */
export function addJsonParser(app: Pick<FastifyInstance, 'addContentTypeParser' | 'getDefaultJsonParser'>): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = String(body);
    if (text === '') done(null, null);
    else void parse(request, text, (error, value) => done(error === null ? null : notJson(text), value));
  });
}

function notJson(text: string): ProductError {
  try {
    JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    const reason = (error as Error).message.slice(0, MAX_REASON);
    return new ProductError('invalid_json', `The body is not JSON: ${reason}.`);
  }
  return new ProductError('invalid_json', 'The body has a key __proto__ or constructor.prototype.');
}
