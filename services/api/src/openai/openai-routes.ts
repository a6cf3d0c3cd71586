import { answerError, createErrorHandler, type HttpApp } from '@lorasmith/service-kit';
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

const PREFIX = '/v1';
const answerOpenaiError = createErrorHandler(openaiErrors);

/** Answers an error that occurred before a route was found, below `/v1` as the OpenAI API does. */
export const answerUnrouted: typeof answerError = (error, request, reply) => {
  const answer = request.url.startsWith(`${PREFIX}/`) ? answerOpenaiError : answerError;
  answer(error, request, reply);
};

/** The calls of the OpenAI API under `/v1`, with its objects and its errors. */
export async function openaiRoutes(root: HttpApp, options: OpenaiRoutesOptions): Promise<void> {
  await root.register(async (app: HttpApp) => routes(app, options), { prefix: PREFIX });
}

async function routes(app: HttpApp, { text, files, fineTuning }: OpenaiRoutesOptions): Promise<void> {
  app.setErrorHandler(answerOpenaiError);
  // Paths without a route are refused before this, and now by the error handler above.
  app.setNotFoundHandler(() => {});
  await app.register(textRoutes, text);
  await app.register(openaiModelRoutes, { directory: text.directory });
  await app.register(fileRoutes, files);
  await app.register(fineTuningRoutes, fineTuning);
}
