export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
  /** Of the speaker; chat templates may show it. */
  readonly name?: string;
}
