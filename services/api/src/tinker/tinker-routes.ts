import type { HttpApp } from '@lorasmith/service-kit';
import { type CheckpointRoutesOptions, checkpointRoutes } from './checkpoint-routes.js';
import { futureRoutes } from './future-routes.js';
import { type ModelRoutesOptions, modelRoutes } from './model-routes.js';
import { type SamplingRoutesOptions, samplingRoutes } from './sampling-routes.js';
import { sessionRoutes } from './session-routes.js';
import { answerTinkerError } from './tinker-errors.js';

export type TinkerRoutesOptions = CheckpointRoutesOptions & ModelRoutesOptions & SamplingRoutesOptions;

/** The beginning of the paths that the client of tinker calls. Its `TINKER_BASE_URL` ends with `/tinker`. */
export const TINKER_PREFIX = '/tinker/api/v1';

/** The calls of the tinker SDK, with its errors. */
export async function tinkerRoutes(root: HttpApp, options: TinkerRoutesOptions): Promise<void> {
  await root.register(async (app: HttpApp) => routes(app, options), { prefix: TINKER_PREFIX });
}

async function routes(app: HttpApp, options: TinkerRoutesOptions): Promise<void> {
  app.setErrorHandler(answerTinkerError);
  // Paths without a route are refused before this, and now by the error handler above.
  app.setNotFoundHandler(() => {});
  await app.register(sessionRoutes, options);
  await app.register(modelRoutes, options);
  await app.register(futureRoutes, options);
  await app.register(samplingRoutes, options);
  await app.register(checkpointRoutes, options);
}
