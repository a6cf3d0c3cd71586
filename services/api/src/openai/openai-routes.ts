import { createErrorHandler, type HttpApp } from '@lorasmith/service-kit';
import { type FileRoutesOptions, fileRoutes } from './files/file-routes.js';
import { type FineTuningRoutesOptions, fineTuningRoutes } from './fine-tuning/fine-tuning-routes.js';
import { openaiModelRoutes } from './models/model-routes.js';
import { openaiErrors } from './openai-errors.js';
import { type TextRoutesOptions, textRoutes } from './text/text-routes.js';

export interface OpenaiRoutesOptions {
  text: TextRoutesOptions;
  files: FileRoutesOptions;
  fineTuning: FineTuningRoutesOptions;
}

/** The calls of the OpenAI API under `/v1`, with its objects and its errors. */
export async function openaiRoutes(root: HttpApp, options: OpenaiRoutesOptions): Promise<void> {
  await root.register(async (app: HttpApp) => routes(app, options), { prefix: '/v1' });
}

async function routes(app: HttpApp, { text, files, fineTuning }: OpenaiRoutesOptions): Promise<void> {
  app.setErrorHandler(createErrorHandler(openaiErrors));
  // Paths without a route are refused before this, and now by the error handler above.
  app.setNotFoundHandler(() => {});
  await app.register(textRoutes, text);
  await app.register(openaiModelRoutes, { directory: text.directory });
  await app.register(fileRoutes, files);
  await app.register(fineTuningRoutes, fineTuning);
}
