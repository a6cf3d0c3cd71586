import type { FastifyReply, FastifyRequest } from 'fastify';

/** Ends an answer whose client stops reading: it would keep the open files and the connections forever. */
export function endWhenStalled(request: FastifyRequest, reply: FastifyReply, stallMs: number): void {
  reply.raw.setTimeout(stallMs, () => {
    request.log.info({ stall_ms: stallMs }, 'an answer was ended because its client stopped reading');
    reply.raw.destroy();
  });
}
