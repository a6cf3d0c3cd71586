export type { PieceWriter } from './piece-writer.js';
export { type AskOptions, createVoiceClient, type VoiceClient } from './voice-client.js';
export { type ClaimedRequest, createVoiceServer, type VoiceServer, type VoiceServerOptions } from './voice-server.js';
