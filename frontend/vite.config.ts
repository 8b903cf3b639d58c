import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` proxies to a console that runs on CONSOLE_URL (default: the port of `make up`).
const consoleUrl = process.env.CONSOLE_URL ?? "http://127.0.0.1:8800";

export default defineConfig({
  base: "/static/app/",
  plugins: [react()],
  build: {
    outDir: "dist",
    target: "es2022",
    // Everything comes from our own files, so that the content security policy stays strict.
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        hashCharacters: "hex",
        entryFileNames: "[name].[hash:12].js",
        chunkFileNames: "[name].[hash:12].js",
        assetFileNames: "[name].[hash:12][extname]",
      },
    },
  },
  server: {
    proxy: {
      "/api": consoleUrl,
      "/ws": { target: consoleUrl, ws: true },
    },
  },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
