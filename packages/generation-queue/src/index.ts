export type { PieceWriter } from './piece-writer.js';
export { type AskOptions, createVoiceClient, type VoiceClient } from './generation-client.js';
export { type ClaimedRequest, createVoiceServer, type VoiceServer, type VoiceServerOptions } from './generation-server.js';
