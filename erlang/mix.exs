defmodule DataPublisher.MixProject do
  use Mix.Project

  def project do
    [
      app: :data_publisher,
      version: "0.1.0",
      language: :erlang,
      elixir: "~> 1.14",
      description: "The behaviour data_publisher for OTP 25 to 28, and a replicated key-value store on it",
      erlc_paths: sources(),
      erlc_options: [:debug_info, :warnings_as_errors],
      deps: []
    ]
  end

  def application do
    [registered: [:dp_kv_keeper]]
  end

  # otp25 holds the behaviour, which is part of OTP from 29 on.
  defp sources do
    case String.to_integer(System.otp_release()) do
      release when release >= 29 -> ["src"]
      _ -> ["otp25", "src"]
    end
  end
end
