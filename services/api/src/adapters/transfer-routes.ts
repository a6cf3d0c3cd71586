import { Readable } from 'node:stream';
import type { AliasStore } from '@lorasmith/artifacts';
import {
  Adapter,
  AdapterFileList,
  AdapterFilesQuery,
  type AdapterId,
  closed,
  DownloadQuery,
  ImportAdapterQuery,
  ProductError,
  TAR_MEDIA_TYPES,
} from '@lorasmith/contracts';
import { type FreeBytes, freeBytesHeaders, type HttpApp, onceClosed } from '@lorasmith/service-kit';
import { readFolderToken } from '@lorasmith/storage';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import { type TSchema, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { ByteQuota } from '../access/byte-quota.js';
import type { ConcurrencyLimit } from '../access/concurrency-limit.js';
import { adapterLimits } from '../access/limits.js';
import { type Answer, answer, errorAnswers, noBody } from '../openapi/answers.js';
import { AdapterIdParam, acceptNames, createForwarding, type ForwardingOptions } from './forward-request.js';
import type { RegistryClient } from './registry-client.js';

export interface TransferRoutesOptions extends ForwardingOptions {
  registry: RegistryClient;
  aliases: Pick<AliasStore, 'adapterOf'>;
  quota: ByteQuota;
  /** The limit of downloads and imports. */
  transfers: ConcurrencyLimit;
  /** A download is ended if its client reads no bytes for this time. */
  stallMs: number;
  /** The data folder, which the registry may share. */
  dataDir: string;
}

const tags = ['adapters'];
const params = Type.Object({ id: AdapterIdParam }, closed);
const fileParams = Type.Object({ id: AdapterIdParam, name: Type.String({ maxLength: 300 }) }, closed);
const bytes = (description: string) => Type.Unsafe<Uint8Array>(Type.String({ format: 'binary', description }));
const IMPORT_BODY = { content: { [TAR_MEDIA_TYPES[0]]: { schema: bytes('An uncompressed tar of a PEFT folder.') } } };
const rangeHeaders = Type.Object({
  range: Type.Optional(Type.String({ description: 'One range of bytes.', examples: ['bytes=0-1023'] })),
  'if-none-match': Type.Optional(Type.String({ description: 'An ETag; if it still matches, the answer is 304.' })),
  'if-range': Type.Optional(Type.String({ description: 'An ETag; the range is returned only if it still matches.' })),
});
const download = (description: string, ...contentTypes: string[]) => ({
  200: answerOf(contentTypes, description, bytes('Strong ETag, Content-Length, Accept-Ranges.')),
  206: answerOf(contentTypes, 'The requested range.', bytes('With Content-Range.')),
  304: noBody('Unchanged.'),
  307: noBody('A single file, where `S3_REDIRECT_DOWNLOADS` is set: it is in the bucket, at `Location`, for 60 s.'),
  ...errorAnswers(400, 404, 409, 416, 422, 503, 504),
});

function answerOf(contentTypes: string[], description: string, schema: TSchema): Answer {
  return { description, content: Object.fromEntries(contentTypes.map((type) => [type, { schema }])) };
}

/** Long enough for the merge of a large model. The registry has a shorter limit. */
const HEADERS_TIMEOUT_MS = 60 * 60_000;

const importAdapter = {
  config: { documentedBody: IMPORT_BODY },
  schema: {
    operationId: 'importAdapter',
    summary: 'Import a PEFT adapter, to serve it, merge it, or train it further',
    description:
      'An uncompressed tar of a PEFT folder: `adapter_config.json` and `adapter_model.safetensors` at its top or ' +
      'in one folder; other files are ignored. Without `base_model`, `base_model_name_or_path` in the config names the base ' +
      'model: the one that was pulled from this repository of the hub, or else the one whose name is its last part. The adapter is checked against that model, and its files are written ' +
      'again with one rank and one scale.',
    tags,
    querystring: ImportAdapterQuery,
    response: {
      201: answer('Imported. `Location` is its address.', Adapter),
      ...errorAnswers(400, 404, 413, 415, 422, 503, 504, 507),
    },
  },
};

const downloadAdapter = {
  schema: {
    operationId: 'downloadAdapter',
    summary: 'Download an adapter, or the merged model',
    description:
      'A tar of the PEFT folder. With `weights=merged`, a tar of the merged model in Hugging Face layout; with ' +
      '`format=safetensors`, only the weights. `format=gguf` is one file for llama.cpp and Ollama: of the merged ' +
      'model, or of the adapter.',
    tags,
    params,
    querystring: DownloadQuery,
    headers: rangeHeaders,
    response: download('A tar, a safetensors or a GGUF file.', TAR_MEDIA_TYPES[0], 'application/octet-stream'),
  },
};

const listAdapterFiles = {
  schema: {
    operationId: 'listAdapterFiles',
    summary: 'Files of an adapter, with their digests',
    tags,
    params,
    querystring: AdapterFilesQuery,
    response: { 200: answer('The files.', AdapterFileList), ...errorAnswers(400, 404, 409, 422, 503, 504) },
  },
};

const downloadAdapterFile = {
  schema: {
    operationId: 'downloadAdapterFile',
    summary: 'Download one file of an adapter',
    tags,
    params: fileParams,
    querystring: AdapterFilesQuery,
    headers: rangeHeaders,
    response: download('The file.', 'application/octet-stream', 'application/json', 'text/plain'),
  },
};

/**
 * The slow routes under `/adapters`: downloads, imports, and calls that wait for a merge. Their number is limited, so their
 * connections to the registry need no limit.
 */
export async function transferRoutes(app: HttpApp, options: TransferRoutesOptions): Promise<void> {
  const { stallMs, dataDir, transfers } = options;
  const importQuota = createImportQuota(options);
  const forwardCounted = await createForwarding(app, options, {
    connections: null,
    headersTimeout: HEADERS_TIMEOUT_MS,
  });
  const forward = async (request: FastifyRequest, reply: FastifyReply) => {
    // Read each time: a registry that restarts writes a new one.
    const token = await readFolderToken(dataDir);
    return forwardCounted(request, reply, token === null ? { stallMs } : { stallMs, files: { dataDir, token } });
  };

  acceptNames(app, options.aliases);

  app.addHook('preHandler', async (request, reply) => {
    const { transfers: own, totalTransfers: total } = request.limits;
    onceClosed(reply.raw, transfers.acquire(request.identity.key?.id ?? null, { own, total }));
  });

  // The body is streamed to the registry, which checks its size.
  app.removeContentTypeParser(['application/json', 'text/plain']);
  app.addContentTypeParser([...TAR_MEDIA_TYPES], (_request, payload, done) => done(null, payload));
  app.post('/adapters', importAdapter, async (request, reply) => {
    const { freeBytes, metered, checkStored } = await importQuota.begin(request, reply);
    if (request.body instanceof Readable) request.body = metered;
    const headers = freeBytesHeaders(freeBytes);
    return forwardCounted(request, reply, { buffered: true, headers, beforeSending: checkStored });
  });

  app.get('/adapters/:id', downloadAdapter, (request, reply) => forward(request, reply));

  app.get('/adapters/:id/files', listAdapterFiles, (request, reply) => forward(request, reply));

  app.get('/adapters/:id/files/:name', downloadAdapterFile, (request, reply) => forward(request, reply));
}

/** An import whose bytes count against the quota. Its tar is reserved until the answer has been sent. */
interface CountedImport {
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

interface ImportQuota {
  /** @throws ProductError `quota_exceeded`, `storage_full`, `redis_unavailable`, `registry_unavailable` */
  begin(request: FastifyRequest, reply: FastifyReply): Promise<CountedImport>;
}

const adapterSchema = Compile(Adapter);

function createImportQuota({ quota, registry }: { quota: ByteQuota; registry: RegistryClient }): ImportQuota {
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
