export { type AskOptions, createGenerationClient, type GenerationClient } from './generation-client.js';
export {
  type ClaimedRequest,
  createGenerationServer,
  type GenerationServer,
  type GenerationServerOptions,
} from './generation-server.js';
export type { PieceWriter } from './piece-writer.js';
