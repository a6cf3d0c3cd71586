import { Readable } from 'node:stream';
import { Adapter, type AdapterId, ProductError } from '@lorasmith/contracts';
import { type FreeBytes, onceClosed } from '@lorasmith/service-kit';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import { Compile } from 'typebox/compile';
import type { ByteQuota } from '../access/byte-quota.js';
import { adapterLimits } from '../access/limits.js';
import type { RegistryClient } from './registry-client.js';

/** An import, as far as its bytes go. Its tar is held until the answer is over; the call to the registry ends with it. */
export interface CountedImport {
  /** For the adapter as the registry stores it, which may be much larger than its tar. */
  room: FreeBytes;
  /** The body, which ends with an error where there is no room for it. */
  metered: Readable;
  /**
   * What the registry stored must have room beside what others stored meanwhile; else it is removed again.
   * @throws ProductError `quota_exceeded`, `storage_full`
   */
  keptWithin(status: number, answer: Buffer): Promise<void>;
}

export interface ImportQuota {
  /** @throws ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`, `registry_unavailable` */
  begin(request: FastifyRequest, reply: FastifyReply): Promise<CountedImport>;
}

const adapterSchema = Compile(Adapter);

export function createImportQuota({ quota, registry }: { quota: ByteQuota; registry: RegistryClient }): ImportQuota {
  const removed = async (id: AdapterId, log: FastifyBaseLogger) => {
    await registry.removeAdapter(id).catch((error: unknown) => {
      log.error({ err: error, adapter: id }, 'an adapter that exceeds the quota of its key could not be removed');
    });
  };
  return {
    async begin(request, reply) {
      const upload = quota.begin(request.caller.owner, adapterLimits(request.limits));
      onceClosed(reply.raw, () => {
        upload
          .end()
          .catch(() =>
            request.log.warn("an import's reservation of the quota could not be released now; it expires later"),
          );
      });
      const room = await upload.freeBytes();
      upload.checkOneMore();
      const { 'content-length': length } = request.headers;
      // Destroying the request would take the connection along, and with it the answer.
      const chunks = request.raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
      const metered = upload.metered(chunks, length === undefined ? undefined : Number(length));
      return {
        room,
        metered: Readable.from(metered, { objectMode: false }),
        async keptWithin(status, answer) {
          if (status !== 201) return;
          try {
            // It is stored, and counted there.
            await upload.hold(0);
          } catch (error) {
            // Where nobody can say, the room that was found before counts.
            if (!isBeyond(error)) return;
            const adapter: unknown = JSON.parse(answer.toString());
            if (adapterSchema.Check(adapter)) await removed(adapter.id, request.log);
            throw error;
          }
        },
      };
    },
  };
}

function isBeyond(error: unknown): boolean {
  return error instanceof ProductError && (error.code === 'quota_exceeded' || error.code === 'storage_full');
}
