import { Readable } from 'node:stream';
import { Adapter, type AdapterId, ProductError } from '@lorasmith/contracts';
import { type FreeBytes, onceClosed } from '@lorasmith/service-kit';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import { Compile } from 'typebox/compile';
import type { ByteQuota } from '../access/byte-quota.js';
import { adapterLimits } from '../access/limits.js';
import type { RegistryClient } from './registry-client.js';

/** An import whose bytes count against the quota. Its tar is reserved until the answer has been sent. */
export interface CountedImport {
  /** Free bytes for the adapter as the registry stores it, which may be much larger than its tar. */
  freeBytes: FreeBytes;
  /** The body, which ends with an error if it exceeds the quota. */
  metered: Readable;
  /**
   * Checks the quota again after the registry has stored the adapter, and removes the adapter if it exceeds the quota
   * together with other imports.
   * @throws ProductError `quota_exceeded`, `storage_full`
   */
  checkStored(status: number, answer: Buffer): Promise<void>;
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
      const freeBytes = await upload.freeBytes();
      upload.checkMore(1);
      const { 'content-length': length } = request.headers;
      // Destroying the request would close its connection before the answer is sent.
      const chunks = request.raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
      const metered = upload.metered(chunks, length === undefined ? undefined : Number(length));
      return {
        freeBytes,
        metered: Readable.from(metered, { objectMode: false }),
        async checkStored(status, answer) {
          if (status !== 201) return;
          try {
            // The stored adapter counts now, so nothing is reserved for it any more.
            await upload.reserve(0);
          } catch (error) {
            // If the registry or Redis is unavailable, the check before the import counts.
            if (!isQuotaError(error)) return;
            const adapter: unknown = JSON.parse(answer.toString());
            if (adapterSchema.Check(adapter)) await removed(adapter.id, request.log);
            throw error;
          }
        },
      };
    },
  };
}

function isQuotaError(error: unknown): boolean {
  return error instanceof ProductError && (error.code === 'quota_exceeded' || error.code === 'storage_full');
}
